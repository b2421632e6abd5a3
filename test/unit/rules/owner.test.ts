import { describe, expect, test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { destinationKey } from '../../../worker/rules/destinations.ts';
import { isForeign, stillWrites, writtenTwice } from '../../../worker/rules/owner.ts';
import type { CopyRule, Rule } from '../../../worker/rules/rule.ts';
import type { SyncRecord } from '../../../worker/state/state.ts';
import { rule } from '../../support/rules.ts';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
const ECR_FIPS = '111111111111.dkr.ecr-fips.us-east-1.amazonaws.com';
const ECR_DUAL_STACK = '111111111111.dkr-ecr.us-east-1.on.aws';
const DIGEST = digestOf(Buffer.from('image'));
const NEW_YEAR_MS = Date.UTC(2030, 0, 1);

function recordOf(destination: string, change: Partial<SyncRecord> = {}): SyncRecord {
  return {
    ...destinationKey(destination),
    source: `docker://${ECR}/team/app:1.0`,
    sourceDigest: DIGEST,
    digest: DIGEST,
    choices: 'all',
    bytes: 1,
    atMs: NEW_YEAR_MS,
    run: 'run',
    rule: 'owner',
    ...change,
  };
}

const owner = (change: Partial<CopyRule> = {}): CopyRule =>
  rule({ name: 'owner', from: [`${ECR}/team/*`], to: ['t.example/{repository}'], ...change });
const PUBLISHES: Rule = {
  kind: 'publish',
  name: 'owner',
  from: 's3://documents/x/',
  to: 't.example/files',
  schedule: { cron: '0 * * * *', timeZone: 'UTC' },
  onPush: false,
};
const TAGS = { include: [], exclude: [], untagged: false } as const;

describe('a rule still writes a destination', () => {
  test.each<[string, Rule, SyncRecord]>([
    ['when it makes it from the same image', owner(), recordOf('docker://t.example/team/app:1.0')],
    [
      'by one of several templates',
      owner({ to: ['u.example/{repository}', 't.example/x:{tag}-y'] }),
      recordOf('docker://t.example/x:1.0-y'),
    ],
    [
      'from a registry with another host name now',
      owner({ from: [`${ECR_DUAL_STACK}/team/app`] }),
      recordOf('docker://t.example/team/app:1.0'),
    ],
    [
      'in a registry that it names by its FIPS host now',
      owner({ to: [`${ECR_FIPS}/copies/{repository}`] }),
      recordOf(`docker://${ECR}/copies/team/app:1.0`),
    ],
    [
      'in the repository for its artifacts, which it names by its FIPS host now',
      { ...PUBLISHES, to: `${ECR_FIPS}/files` },
      recordOf(`docker://${ECR}/files:latest`, { source: 's3://documents/x/' }),
    ],
    [
      'when latest and age may select it',
      owner({ tags: { ...TAGS, latest: { count: 1, by: 'push' }, maxAgeDays: 1 } }),
      recordOf('docker://t.example/team/app:1.0'),
    ],
    [
      'for an image whose tag looks like that of a list of referrers',
      owner(),
      recordOf(`docker://t.example/team/app:${DIGEST.replace(':', '-')}`, {
        source: `docker://${ECR}/team/app:${DIGEST.replace(':', '-')}`,
      }),
    ],
    [
      'for an image without a tag',
      owner({ tags: { ...TAGS, untagged: true } }),
      recordOf(`docker://t.example/team/app@${DIGEST}`, { source: `docker://${ECR}/team/app@${DIGEST}` }),
    ],
    [
      'for the same day',
      owner({ to: ['s3://archives/{date}/{tag}.tar'] }),
      recordOf('s3://archives/2030-01-01/1.0.tar'),
    ],
    [
      'when it publishes the same place to it',
      PUBLISHES,
      recordOf('docker://t.example/files:latest', { source: 's3://documents/x/' }),
    ],
  ])('%s', (_, one, record) => expect(stillWrites(one, record, NEW_YEAR_MS)).toBe(true));

  test.each<[string, Rule, SyncRecord]>([
    ['another repository', owner({ from: [`${ECR}/other/*`] }), recordOf('docker://t.example/team/app:1.0')],
    ['another registry', owner({ from: ['s.example/team/*'] }), recordOf('docker://t.example/team/app:1.0')],
    ['another template', owner({ to: ['t.example/x/{repository}'] }), recordOf('docker://t.example/team/app:1.0')],
    [
      'a template that makes no name of the image',
      owner({ to: [`t.example/x:${'y'.repeat(120)}-{digest}`] }),
      recordOf('docker://t.example/team/app:1.0'),
    ],
    ['other tags', owner({ tags: { ...TAGS, semver: '>=2' } }), recordOf('docker://t.example/team/app:1.0')],
    [
      'versions alone, and the tag is not a version',
      owner({ tags: { ...TAGS, latest: { count: 1, by: 'version' } } }),
      recordOf('docker://t.example/team/app:edge', { source: `docker://${ECR}/team/app:edge` }),
    ],
    [
      'tagged images alone',
      owner(),
      recordOf(`docker://t.example/team/app@${DIGEST}`, { source: `docker://${ECR}/team/app@${DIGEST}` }),
    ],
    ['another day', owner({ to: ['s3://archives/{date}/{tag}.tar'] }), recordOf('s3://archives/2029-12-31/1.0.tar')],
    [
      'nothing, and the record is of a restore',
      owner(),
      recordOf('docker://t.example/team/app:1.0', { source: 's3://archives/app.tar' }),
    ],
    ['nothing of a source that cannot be read', owner(), recordOf('docker://t.example/team/app:1.0', { source: '' })],
    [
      'objects of another place',
      PUBLISHES,
      recordOf('docker://t.example/files:latest', { source: 's3://documents/y/' }),
    ],
    [
      'objects to another repository',
      PUBLISHES,
      recordOf('docker://t.example/other:latest', { source: 's3://documents/x/' }),
    ],
    [
      'nothing, and is of another kind',
      { ...owner(), kind: 'prune', at: [`${ECR}/*`], policies: [], maxDeletes: 1000, dryRun: false },
      recordOf('docker://t.example/team/app:1.0'),
    ],
  ])('but not when it reads %s', (_, one, record) => expect(stillWrites(one, record, NEW_YEAR_MS)).toBe(false));
});

describe('a record is foreign', () => {
  const from = `docker://${ECR}/team/app:1.1`;
  const record = recordOf('docker://t.example/app:newest');

  test.each<[string, boolean, Partial<SyncRecord>]>([
    ['of another rule', true, { rule: 'other' }],
    ['of another repository', true, { source: `docker://${ECR}/team/tool:1.1` }],
    ['of another registry', true, { source: 'docker://s.example/team/app:1.1' }],
    ['of no rule: no', false, { rule: undefined }],
    ['of another tag: no', false, {}],
    ['of another host of the registry: no', false, { source: `docker://${ECR_DUAL_STACK}/team/app:1.0` }],
    ['of a source that cannot be read: no', false, { source: '' }],
  ])('%s', (_, foreign, change) => expect(isForeign({ ...record, ...change }, { rule: 'owner', from })).toBe(foreign));
});

test('the refusal names the source, both rules and the remedy', () => {
  const failure = writtenTwice(
    'docker://t.example/a:1',
    { rule: 'late', from: 'docker://s.example/a:1' },
    { rule: 'early', from: 'docker://r.example/a:1' },
  );
  expect(failure).toMatchObject({ code: 'CONFLICT', retryable: false });
  expect(failure.message).toBe(
    'copy docker://s.example/a:1 to docker://t.example/a:1 for rule "late": rule "early" writes it already, from docker://r.example/a:1: change the destinations or the selection of one of the rules, or remove one',
  );
});
