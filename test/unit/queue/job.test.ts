import * as fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  formatJob,
  jobId,
  parseMessage,
  type CopyJob,
  type Job,
  type ParsedMessage,
} from '../../../worker/queue/job.ts';
import { MAX_MESSAGE_BYTES } from '../../../worker/queue/queue.ts';
import { Failure, isFailure } from '../../../worker/util/failure.ts';

const MIRROR: CopyJob = {
  version: 1,
  kind: 'mirror',
  id: '0011',
  run: 'base-1',
  rule: 'base',
  at: '2026-01-31T12:00:00.000Z',
  from: 'docker://docker.io/library/alpine:3.20',
  to: ['docker://111111111111.dkr.ecr.us-east-1.amazonaws.com/hub/alpine'],
};
const REQUEST = { version: 1, kind: 'mirror', from: MIRROR.from, to: MIRROR.to };
const DIGEST = `sha256:${'7f'.repeat(32)}`;
const PUSH = {
  version: '0',
  id: '13cde686-328b-6117-af20-0e5566167482',
  'detail-type': 'ECR Image Action',
  source: 'aws.ecr',
  account: '123456789012',
  time: '2019-11-16T01:54:34Z',
  region: 'us-west-2',
  resources: [],
  detail: {
    result: 'SUCCESS',
    'repository-name': 'team/app',
    'image-digest': DIGEST,
    'action-type': 'PUSH',
    'image-tag': 'latest',
  },
};

const parsed = (message: unknown): ParsedMessage => parseMessage(JSON.stringify(message));
function refused(body: string): string {
  try {
    parseMessage(body);
  } catch (error) {
    if (isFailure(error, 'INVALID')) return error.message;
    throw error;
  }
  return 'it was read';
}
const reason = (message: unknown): string => refused(JSON.stringify(message));

describe('a job', () => {
  test('is read as it was written', () => {
    const job: CopyJob = {
      ...MIRROR,
      handovers: 2,
      digest: DIGEST,
      platforms: ['linux/amd64', 'linux/arm/v7'],
      referrers: false,
      create: { tagMutability: 'IMMUTABLE', tags: { a: 'ä' } },
      force: true,
    };
    expect(parseMessage(formatJob(job))).toEqual({ type: 'job', job });
    expect(parsed({ ...job, create: false })).toMatchObject({ job: { create: false } });
  });

  test.each<Job>([
    { ...MIRROR, kind: 'backup', to: ['s3://backups/a/b c.tar', 's3://elsewhere/b.tar'] },
    { ...MIRROR, kind: 'restore', from: 's3://backups/a/b.tar', to: 'docker://localhost:5000/a' },
    {
      version: 1,
      kind: 'verify',
      id: 'a',
      run: 'b',
      at: MIRROR.at,
      from: 's3://b/c',
      against: 'docker://a/b@sha256:c',
    },
    { version: 1, kind: 'plan', id: 'a', run: 'b', rule: 'c', at: MIRROR.at, after: { repository: 'x', name: 'y' } },
  ])('of kind $kind', (job) => {
    expect(parseMessage(formatJob(job))).toEqual({ type: 'job', job });
  });

  test('ignores what a newer planner adds', () => {
    expect(parsed({ ...MIRROR, someday: true })).toEqual({ type: 'job', job: MIRROR });
  });

  test('without chosen platforms means all', () => {
    expect(parsed({ ...MIRROR, platforms: [] })).toEqual({ type: 'job', job: MIRROR });
  });

  test('escapes characters that SQS refuses', () => {
    const job = { ...MIRROR, from: 'docker://a/b\uFFFF\uFFFE\uD800' };
    const body = formatJob(job);
    expect(body).toMatch(/^[\u0020-\uFFFD]*$/u);
    expect(parseMessage(body)).toEqual({ type: 'job', job });
  });

  test('of another version or kind fails with advice', () => {
    expect(reason({ ...MIRROR, version: 2 })).toBe(
      'message of version 2: this worker reads version 1, deploy a newer one',
    );
    expect(reason({ ...MIRROR, version: '1' })).toBe('message of version "1": expected 1');
    expect(reason({ ...MIRROR, version: undefined })).toBe(
      'message without a version: expected "version": 1, or an event of ECR or S3 as EventBridge sends it',
    );
    expect(reason({ ...MIRROR, kind: 'prune' })).toBe(
      'message of kind "prune": this worker knows mirror, backup, backup-store, snapshot, restore, publish, verify, settings, plan',
    );
    expect(reason({ ...MIRROR, kind: undefined })).toContain('message without a kind: ');
  });

  test.each<[string, object, string]>([
    ['no source', { from: undefined }, 'mirror job: from: expected a string, it is missing'],
    ['a source in S3', { from: 's3://a/b.tar' }, 'from: expected docker://host/repository:tag, got "s3://a/b.tar"'],
    ['an archive', { to: ['s3://a/b.tar'] }, 'to[0]: expected docker://host/repository:tag, got "s3://a/b.tar"'],
    ['no destination', { to: [] }, 'to: expected one destination at least, got a list'],
    ['a destination twice', { to: ['docker://a/b', 'docker://a/b'] }, 'to: one destination is named twice'],
    ['one string', { to: 'docker://a/b' }, 'to: expected a list, got "docker://a/b"'],
    ['an odd platform', { platforms: ['linux'] }, 'platforms[0]: expected os/architecture[/variant], got "linux"'],
    ['an odd digest', { digest: 'latest' }, 'digest: expected a digest: sha256:…, got "latest"'],
    ['yes', { referrers: 'yes' }, 'referrers: expected true or false, got "yes"'],
    ['true', { create: true }, 'create: expected an object, as repository.json has it, or false, got true'],
    ['an invalid time', { at: 'yesterday' }, 'at: expected a moment as of ISO 8601'],
    ['a negative number', { handovers: -1 }, 'handovers: expected 0 or more, got -1'],
    ['control characters', { run: 'a\nb' }, 'run: expected a name, got "a\\nb"'],
    ['two faults', { from: 1, to: 2 }, 'from: expected a string, got 1 (and 1 more)'],
  ])('with %s is refused', (_, change, why) => {
    expect(reason({ ...MIRROR, ...change })).toContain(why);
  });

  test('credentials in an address are not repeated', () => {
    expect(reason({ ...MIRROR, from: 'https://me:secret@host/a' })).not.toContain('secret');
    expect(refused('//me:secret@host')).not.toContain('secret');
    // a message with them is not a job: its places would be in logs and in the state
    for (const from of ['docker://me:secret@host.example/a:1', 'docker://host.example/a:1?token=secret']) {
      expect(reason({ ...MIRROR, from })).toMatch(/^mirror job: from: expected .* without password and query, got "/);
      expect(reason({ ...MIRROR, from })).not.toContain('secret');
    }
  });
});

describe('a request by hand', () => {
  test('needs neither id nor run nor time', () => {
    expect(parsed(REQUEST)).toEqual({ type: 'request', request: REQUEST });
  });

  test('can ask to plan a rule', () => {
    expect(parsed({ version: 1, kind: 'plan', rule: 'base' })).toEqual({
      type: 'request',
      request: { version: 1, kind: 'plan', rule: 'base', after: { repository: '', name: '' } },
    });
  });

  test.each(['id', 'at', 'handovers'])('is refused with %s and without run', (member) => {
    expect(reason({ ...REQUEST, [member]: 'x' })).toBe(
      `mirror job: it has ${member}, but no run: leave both out, the worker fills them in`,
    );
  });

  test('is refused with an unknown member', () => {
    expect(reason({ ...REQUEST, platform: 'linux/amd64' })).toBe('mirror job: "platform" is not a member of it');
    expect(reason({ ...REQUEST, rule: 'base' })).toBe('mirror job: "rule" is not a member of it');
  });
});

describe('an event of ECR', () => {
  const event = {
    id: PUSH.id,
    account: '123456789012',
    region: 'us-west-2',
    repository: 'team/app',
    digest: DIGEST,
    tag: 'latest',
    at: '2019-11-16T01:54:34Z',
  };

  test('a push of a tag', () => {
    expect(parsed(PUSH)).toStrictEqual({ type: 'push', event });
  });

  test.each([undefined, null, ''])('a push by digest: its tag is %o', (tag) => {
    const { tag: _, ...untagged } = event;
    expect(parsed({ ...PUSH, detail: { ...PUSH.detail, 'image-tag': tag } })).toStrictEqual({
      type: 'push',
      event: untagged,
    });
  });

  test('with the media types that it has contained since 2024', () => {
    const detail = {
      ...PUSH.detail,
      'manifest-media-type': 'application/vnd.oci.image.manifest.v1+json',
      'artifact-media-type': 'application/vnd.dev.cosign.artifact.sig.v1+json',
    };
    expect(parsed({ ...PUSH, detail })).toMatchObject({
      event: {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json',
      },
    });
  });

  test('through SNS', () => {
    expect(parsed({ Type: 'Notification', Message: JSON.stringify(PUSH) })).toStrictEqual({ type: 'push', event });
  });

  test.each([
    ['DELETE', { detail: { ...PUSH.detail, 'action-type': 'DELETE' } }, '"DELETE" of an image starts no job'],
    ['a push that failed', { detail: { ...PUSH.detail, result: 'FAILURE' } }, 'a push with the result "FAILURE"'],
    ['a scan', { 'detail-type': 'ECR Image Scan' }, 'an event of type "ECR Image Scan" starts no job'],
    ['no detail', { detail: undefined }, 'undefined of an image starts no job'],
  ])('%s starts nothing', (_, change, why) => {
    expect(parsed({ ...PUSH, ...change })).toEqual({ type: 'ignored', why: expect.stringContaining(why) });
  });

  test('is refused when it names nothing', () => {
    expect(reason({ ...PUSH, detail: { ...PUSH.detail, 'image-digest': undefined } })).toBe(
      'event of a push to ECR: detail.image-digest: expected a string, it is missing',
    );
  });
});

describe('a change of an object, as EventBridge sends it', () => {
  const CHANGE = {
    version: '0',
    id: '17793124-05d4-b198-2fde-7ededc63b103',
    'detail-type': 'Object Created',
    source: 'aws.s3',
    detail: { bucket: { name: 'documents' }, object: { key: 'a b/ü\n+%20', size: 5 }, reason: 'PutObject' },
  };
  const event = { id: CHANGE.id, bucket: 'documents', key: 'a b/ü\n+%20' };

  test.each(['Object Created', 'Object Deleted'])('"%s" names the bucket and the unescaped key', (type) => {
    expect(parsed({ ...CHANGE, 'detail-type': type })).toStrictEqual({ type: 'object', event });
  });

  test.each(['Object Tags Added', 'Object Storage Class Changed', 'Object Restore Completed'])(
    '"%s" starts nothing',
    (type) => {
      const why = `an event of type "${type}" starts no job`;
      expect(parsed({ ...CHANGE, 'detail-type': type })).toEqual({ type: 'ignored', why });
    },
  );

  test('is refused without an object', () => {
    expect(reason({ ...CHANGE, detail: { bucket: { name: 'documents' } } })).toBe(
      'event "Object Created" of S3: detail.object: expected an object, it is missing',
    );
  });
});

describe('any message', () => {
  test('over the size limit is refused before it is read', () => {
    const body = formatJob({ ...MIRROR, create: { x: '' } });
    const padded = body.padEnd(MAX_MESSAGE_BYTES, ' ');
    expect(parseMessage(padded).type).toBe('job');
    expect(refused(`${padded} `)).toBe('message of 1048577 bytes: a queue takes 1048576 at most');
  });

  test.each(['', 'mirror everything', '{"version":1', '[]', '"a"', 'null', '1'])('%o is refused', (body) => {
    expect(refused(body)).toMatch(/^message is /);
  });

  const hostile = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.stringify(value)),
    // close to what is accepted
    fc
      .tuple(
        fc.constantFrom<object>(MIRROR, REQUEST, PUSH),
        fc.dictionary(
          fc.constantFrom(...Object.keys(MIRROR), ...Object.keys(PUSH), 'create', 'platforms', '__proto__', 'Type'),
          fc.jsonValue({ maxDepth: 2 }),
        ),
      )
      .map(([message, change]) => JSON.stringify({ ...message, ...change })),
    fc.nat(2000).map((depth) => '['.repeat(depth)),
  );

  test('nested as deeply as its size allows is refused', () => {
    expect(refused('['.repeat(MAX_MESSAGE_BYTES))).toMatch(/^message is no JSON/);
  });

  test('with settings nested deeper than they can be written again is refused', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const body = JSON.stringify({ ...MIRROR, create: { x: 'deep' } }).replace('"deep"', deep);
    expect(refused(body)).toBe('mirror job: create: expected settings nested 50 deep at most, got an object');
  });

  test('is read, or refused as INVALID with one line', () => {
    fc.assert(
      fc.property(hostile, (body) => {
        try {
          parseMessage(body);
        } catch (error) {
          expect(error).toBeInstanceOf(Failure);
          expect(error).toMatchObject({ code: 'INVALID', message: expect.stringMatching(/^[^\n\p{Cc}]{1,2000}$/u) });
        }
      }),
      { numRuns: 2000 },
    );
  });

  const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((it) => !/\p{Cc}/u.test(it));
  // the text after them may be secret
  const image = text.filter((it) => !/[@?]/.test(it)).map((it) => `docker://host/${it}`);
  const archive = text.map((path) => `s3://bucket/${path}`);
  const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
    fc.option(arbitrary, { nil: undefined });
  const common = {
    version: fc.constant(1 as const),
    id: text,
    run: text,
    rule: optional(text),
    at: fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('9999-12-31') }).map((at) => at.toISOString()),
    handovers: optional(fc.nat()),
  };
  const referrers = optional(fc.boolean());
  // JSON has no -0
  const settings = fc.jsonValue({ maxDepth: 3 }).map((value): unknown => JSON.parse(JSON.stringify(value)));
  const create = optional(fc.oneof(fc.constant(false as const), fc.dictionary(text, settings).filter(isPlain)));
  const copy = (kind: CopyJob['kind'], place: fc.Arbitrary<string>): fc.Arbitrary<CopyJob> =>
    fc.record({
      ...common,
      kind: fc.constant(kind),
      from: image,
      to: fc.uniqueArray(place, { minLength: 1, maxLength: 5 }),
      digest: optional(fc.constant(DIGEST)),
      platforms: optional(fc.uniqueArray(fc.constantFrom('linux/amd64', 'linux/arm/v7'), { minLength: 1 })),
      referrers,
      create,
      force: optional(fc.boolean()),
    });
  const jobs: fc.Arbitrary<Job> = fc.oneof(
    copy('mirror', image),
    copy('backup', archive),
    fc.record({ ...common, kind: fc.constant('restore' as const), from: archive, to: image, referrers, create }),
    fc.record({ ...common, kind: fc.constant('publish' as const), from: archive, to: image }),
    fc.record({
      ...common,
      kind: fc.constant('verify' as const),
      from: fc.oneof(image, archive),
      against: optional(image),
    }),
    fc.record({
      ...common,
      kind: fc.constant('plan' as const),
      rule: text,
      after: fc.record({ repository: fc.string(), name: fc.string() }),
    }),
  );

  test('formatJob and parseMessage are inverse', () => {
    fc.assert(
      fc.property(jobs, (job) => {
        expect(parseMessage(formatJob(job))).toEqual({ type: 'job', job });
      }),
    );
  });
});

/** Values that JSON returns unchanged. */
function isPlain(value: unknown): boolean {
  return !JSON.stringify(value).includes('__proto__') && !JSON.stringify(value).includes('-0');
}

test('the id of a job depends on each of its words', () => {
  expect(jobId('run', 'mirror', 'a', 'b')).toBe(jobId('run', 'mirror', 'a', 'b'));
  expect(jobId('run', 'mirror', 'a', 'b')).not.toBe(jobId('run', 'mirror', 'ab'));
  expect(jobId('a')).toMatch(/^[0-9a-f]{24}$/);
});

describe('docs/jobs.md', () => {
  const page = readFileSync(new URL('../../../docs/jobs.md', import.meta.url), 'utf8');
  const examples = [...page.matchAll(/^```json (\w+)\n(.*?)^```$/gms)].map(([, type = '', body = '']) => ({
    type,
    body,
  }));

  test.each(examples)('example $# is a $type', ({ type, body }) => {
    if (type === 'refused') expect(refused(body)).not.toBe('it was read');
    else expect(parseMessage(body)).toMatchObject({ type });
  });

  test('has an example of every kind, and no other code in JSON', () => {
    const kinds = examples.map(({ type, body }) => `${type} ${/"kind": "(\w+)"/.exec(body)?.[1] ?? ''}`);
    for (const kind of ['mirror', 'backup', 'restore', 'publish', 'verify', 'settings', 'plan']) {
      expect(kinds).toContain(`job ${kind}`);
      if (kind !== 'settings') expect(kinds).toContain(`request ${kind}`);
    }
    expect(kinds).toContain('push ');
    expect(kinds).toContain('object ');
    expect(kinds).toContain('ignored ');
    expect(page.match(/^```json/gm)).toHaveLength(examples.length);
  });

  test('repeats the reasons word for word', () => {
    for (const { type, body } of examples) if (type === 'refused') expect(page).toContain(refused(body));
  });
});
