// Settings: their defaults, and what is refused. Those of vaults and of registries are in vault.test.ts and registries.test.ts.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseSettings, readSettings, SettingsError } from '../../infra/settings.ts';
import { ACCOUNT, REGION, refused, settingsOf } from './templates.ts';

describe('what nobody says', () => {
  test('is safe, small and cheap', () => {
    expect(settingsOf('')).toEqual({
      version: 1,
      account: ACCOUNT,
      region: REGION,
      prefix: 'transship',
      tags: {},
      network: { type: 'own', cidr: '10.64.0.0/20', natGateways: 1 },
      worker: {
        cpu: 1024,
        memoryMiB: 2048,
        architecture: 'arm64',
        slots: 2,
        concurrency: 4,
        maxTasks: 4,
        onDemandWeight: 0,
        spotWeight: 1,
        logLevel: 'info',
      },
      planEveryMinutes: 5,
      encryption: 'aws',
      bucket: { storageClass: 'STANDARD', keepOldVersionsDays: 90 },
      access: { repositories: [], buckets: [], roles: [], secrets: [], keys: [] },
      notifications: { emails: [], topics: [] },
      alarms: { runbook: 'docs/runbook.md', ruleAgeHours: 26, pullsPerFiveMinutes: 1000, growthGiBPerDay: 500 },
      logRetentionDays: 90,
      blobMounting: false,
    });
  });

  test.each([
    ['network: { type: public }', 'network', { type: 'public', cidr: '10.64.0.0/20' }],
    [
      "network: { type: existing, vpcId: vpc-0123456789abcdef0, subnetIds: [subnet-01234567], availabilityZones: ['eu-central-1a'] }",
      'network',
      {
        type: 'existing',
        vpcId: 'vpc-0123456789abcdef0',
        subnetIds: ['subnet-01234567'],
        availabilityZones: ['eu-central-1a'],
        publicAddresses: false,
      },
    ],
    [
      "vault: { account: '222222222222', region: eu-west-1 }",
      'vault',
      {
        account: '222222222222',
        region: 'eu-west-1',
        lock: { mode: 'governance', minDays: 7, maxDays: 365 },
        sourceLock: { minDays: 7, maxDays: 365 },
        plan: { cron: '0 5 * * ? *', deleteAfterDays: 35, copyDeleteAfterDays: 90, continuousDays: 0 },
      },
    ],
    [
      'registries: { repositories: [{ name: product/api }] }',
      'registries',
      {
        repositories: [{ name: 'product/api', pullAccounts: [], existing: false, tags: {} }],
        replication: [],
        templates: [],
        replicationSources: [],
        roles: { pull: [], push: [], cleanUp: [] },
      },
    ],
  ] as const)('beside %s', (more, name, whole) => {
    expect(settingsOf(more)[name]).toEqual(whole);
  });
});

describe('a setting that is not there', () => {
  test.each([
    ['regoin: us-east-1', 'there is no setting "regoin" here'],
    ['worker: { cpus: 1 }', 'worker: there is no setting "cpus" here'],
    ['network: { type: public, natGateways: 1 }', 'network: there is no setting "natGateways" here'],
    ['bucket: { versioned: false, acl: x }', 'bucket: there is no setting "versioned", "acl" here'],
    [
      'access: { repositories: [{ names: [a], allow: read, tags: [x] }] }',
      'access.repositories.0: there is no setting "tags" here',
    ],
  ])('%s', (more, message) => {
    expect(refused(more)).toEqual([`test.yaml: ${message}`]);
  });
});

describe('a value that cannot be', () => {
  const CLASSES = '"STANDARD"|"STANDARD_IA"|"INTELLIGENT_TIERING"|"GLACIER_IR"|"GLACIER"|"DEEP_ARCHIVE"';
  test.each([
    [
      'notifications: { emails: [ops@example.com, nobody] }',
      'notifications.emails.1 "nobody": expected an e-mail address',
    ],
    ['prefix: Tea', 'prefix "Tea": expected up to 20 small letters, digits and "-"'],
    ['tags: { owner: 1 }', 'tags.owner 1: Invalid input: expected string, received number'],
    ['planEveryMinutes: 0', 'planEveryMinutes 0: Too small: expected number to be >=1'],
    ['planEveryMinutes: 61', 'planEveryMinutes 61: Too big: expected number to be <=60'],
    [
      'logRetentionDays: 8',
      'logRetentionDays 8: Invalid option: expected one of 1|3|5|7|14|30|60|90|120|150|180|365|400|545|731|1096|1827',
    ],
    ['blobMounting: perhaps', 'blobMounting "perhaps": Invalid input: expected boolean, received string'],
    ['encryption: alias/mine', 'encryption "alias/mine": expected the ARN of a KMS key, by its id and not an alias'],
    ['alarms: { ruleAgeHours: 0 }', 'alarms.ruleAgeHours 0: Too small: expected number to be >0'],

    ['bucket: { storageClass: COLD }', `bucket.storageClass "COLD": Invalid option: expected one of ${CLASSES}`],
    ['bucket: { name: Archives }', 'bucket.name "Archives": expected the name of a bucket'],
    ['bucket: { keepOldVersionsDays: 0 }', 'bucket.keepOldVersionsDays 0: Too small: expected number to be >=1'],
    ['bucket: { objectLock: { mode: governance } }', 'bucket.objectLock.days: it is missing'],
    [
      'bucket: { existing: archives, name: mine }',
      'bucket.name "mine": is of a bucket to create: this one exists already',
    ],
    [
      'bucket: { existing: archives, objectLock: { mode: compliance, days: 30 } }',
      'bucket.objectLock: is set where a bucket is created: this one exists already',
    ],

    ['network: { type: vpn }', 'network.type "vpn": expected own, existing or public'],
    ['network: { natGateways: 2 }', 'network.type: expected own, existing or public'],
    [
      'network: { type: own, cidr: 10.0.0.0/33 }',
      'network.cidr "10.0.0.0/33": expected a range of addresses of /16 to /24, such as 10.64.0.0/20',
    ],
    [
      'network: { type: public, cidr: 10.0.0.0/25 }',
      'network.cidr "10.0.0.0/25": expected a range of addresses of /16 to /24, such as 10.64.0.0/20',
    ],
    [
      'network: { type: own, availabilityZones: [eu-central-1a, us-east-1b] }',
      'network.availabilityZones.1 "us-east-1b": it is no zone of eu-central-1',
    ],
    [
      'network: { type: existing, vpcId: mine, subnetIds: [subnet-01234567], availabilityZones: [eu-central-1a] }',
      'network.vpcId "mine": expected the id of a VPC',
    ],

    [
      'worker: { cpu: 1000 }',
      'worker.cpu 1000: Fargate has no tasks of 1000 CPU units, but of 256, 512, 1024, 2048, 4096, 8192, 16384, 32768',
    ],
    [
      'worker: { cpu: 256, memoryMiB: 4096 }',
      'worker.memoryMiB 4096: Fargate has no tasks of 256 CPU units with 4096 MiB, but with 512 to 2048 MiB (512, 1024, 2048)',
    ],
    [
      'worker: { cpu: 4096 }',
      'worker.memoryMiB: Fargate has no tasks of 4096 CPU units with 2048 MiB, but with 8192 to 30720 MiB (by the GiB)',
    ],
    ['worker: { spotWeight: 0 }', 'worker.spotWeight 0: one of onDemandWeight and spotWeight is more than 0'],
    ['worker: { slots: 65 }', 'worker.slots 65: Too big: expected number to be <=64'],
    ['worker: { maxTasks: 0 }', 'worker.maxTasks 0: Too small: expected number to be >=1'],
    [
      'worker: { image: "the last one" }',
      'worker.image "the last one": expected an image, such as ghcr.io/owner/transship:1.0.0',
    ],
  ])('%s', (more, message) => {
    expect(refused(more)).toEqual([`test.yaml: ${message}`]);
  });

  test('account and region are needed, and digits in quotes', () => {
    expect(() => parseSettings('version: 1', 'a.yaml')).toThrow(
      new SettingsError('a.yaml: account: it is missing\na.yaml: region: it is missing'),
    );
    expect(() => parseSettings(`version: 1\naccount: ${ACCOUNT}\nregion: mars`, 'a.yaml')).toThrow(
      new SettingsError(
        `a.yaml: account ${ACCOUNT}: expected the twelve digits of an account, in quotes\na.yaml: region "mars": expected the name of a region, such as us-east-1`,
      ),
    );
  });
});

describe('access that cannot be named', () => {
  const ROLE = 'arn:aws:iam::222222222222:role';
  const SECRET = 'arn:aws:secretsmanager:eu-central-1:111111111111:secret';
  test.each([
    ['roles', `${ROLE}/*`, 'expected the ARN of a role'],
    ['roles', 'arn:aws:iam::222222222222:user/one', 'expected the ARN of a role'],
    ['secrets', `${SECRET}:*`, 'expected the ARN of a secret'],
    [
      'keys',
      'arn:aws:kms:eu-central-1:111111111111:key/*',
      'expected the ARN of a KMS key, by its id and not an alias',
    ],
  ])('%s: %s', (name, value, message) => {
    expect(refused(`access: { ${name}: ['${value}'] }`)).toEqual([
      `test.yaml: access.${name}.0 "${value}": ${message}`,
    ]);
  });

  test('a bucket for all, and a part of one that is all', () => {
    expect(refused("access: { buckets: [{ name: '*', allow: read }] }")).toEqual([
      'test.yaml: access.buckets.0.name "*": expected the name of a bucket',
    ]);
    expect(refused("access: { buckets: [{ name: archives, prefix: 'a*', allow: read }] }")).toEqual([
      'test.yaml: access.buckets.0.prefix "a*": expected what keys begin with, without wildcards',
    ]);
  });

  test('repositories without a name, or with more than reading and writing', () => {
    expect(refused("access: { repositories: [{ names: [], allow: admin }, { names: ['API'], allow: read }] }")).toEqual(
      [
        'test.yaml: access.repositories.0.names: Too small: expected array to have >=1 items',
        'test.yaml: access.repositories.0.allow "admin": Invalid option: expected one of "read"|"write"',
        'test.yaml: access.repositories.1.names.0 "API": expected the name of a repository, or a pattern such as product/*',
      ],
    );
  });
});

// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
test.each([
  [256, 512, 2048],
  [512, 1024, 4096],
  [1024, 2048, 8192],
  [2048, 4096, 16_384],
  [4096, 8192, 30_720],
  [8192, 16_384, 61_440],
  [16_384, 32_768, 122_880],
  [32_768, 61_440, 249_856],
])('tasks of %d CPU units have %d to %d MiB, and no others', (cpu, least, most) => {
  const allowed = (memoryMiB: number): boolean =>
    refused(`worker: { cpu: ${cpu}, memoryMiB: ${memoryMiB} }`).length === 0;
  expect([least, most].map(allowed)).toEqual([true, true]);
  expect([least / 2, least - 1, most + 1, most + 8192].map(allowed)).toEqual([false, false, false, false]);
});

describe('a file', () => {
  test('that is no YAML says where', () => {
    expect(() => parseSettings('version: [', 'a.yaml')).toThrow(/^a\.yaml: .*line 1, column 11/s);
    expect(() => parseSettings('version: 1\nversion: 1', 'a.yaml')).toThrow(
      /^a\.yaml: Map keys must be unique at line 2/,
    );
  });

  test('with an alias of nothing says so', () => {
    expect(() => parseSettings('version: *one', 'a.yaml')).toThrow(
      new SettingsError('a.yaml: Unresolved alias (the anchor must be set before the alias): one'),
    );
  });

  test.each(['', '[]', 'text', '1'])('of %j is no settings', (text) => {
    expect(() => parseSettings(text, 'a.yaml')).toThrow(/^a\.yaml: the file.*expected object/);
  });

  test('that is not there says what to do', () => {
    expect(() => readSettings('nowhere.yaml')).toThrow(
      new SettingsError('nowhere.yaml cannot be read: copy one of infra/examples/ and name it with TRANSSHIP_INFRA'),
    );
  });

  test('that is there is read', () => {
    const folder = mkdtempSync(join(tmpdir(), 'transship-settings-'));
    try {
      const file = join(folder, 'mine.yaml');
      writeFileSync(file, `version: 1\naccount: '${ACCOUNT}'\nregion: ${REGION}\n`);
      expect(readSettings(file)).toEqual(settingsOf(''));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('of anything is read, or refused as SettingsError', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          parseSettings(text, 'any.yaml');
        } catch (error) {
          expect(error).toBeInstanceOf(SettingsError);
        }
      }),
    );
  });
});
