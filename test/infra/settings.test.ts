// Settings: their defaults, and what is refused. vault.test.ts and registries.test.ts have those of vaults and of registries.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { longestGapDays } from '../../infra/settings/cron.ts';
import { findSettings } from '../../infra/settings/file.ts';
import { parseSettings, readSettings, SettingsError } from '../../infra/settings/settings.ts';
import { ACCOUNT, REGION, refused, settingsOf } from './templates.ts';

const ECR = '111111111111.dkr.ecr.eu-central-1.amazonaws.com';
const KEY_ELSEWHERE = 'arn:aws:kms:us-east-1:111111111111:key/10000000-0000-4000-8000-000000000000';

/** So many members of a list in YAML. */
function many(n: number, member: (i: number) => string): string {
  return Array.from({ length: n }, (_, i) => member(i)).join(', ');
}

describe('bounds', () => {
  test.each([
    ['prefix: %', 'a'.repeat(20), 'a'.repeat(21)],
    ['planEveryMinutes: %', 1, 0],
    ['planEveryMinutes: %', 60, 61],
    ['lookEveryHours: %', 0, -1],
    ['lookEveryHours: %', 720, 721],
    ['logRetentionDays: %', 1827, 1828],
    ['bucket: { keepOldVersionsDays: % }', 36_500, 36_501],
    ['bucket: { keepOldVersionsDays: % }', 1, 0],
    ['network: { type: own, natGateways: % }', 3, 4],
    ['network: { type: own, availabilityZones: [eu-central-1a%] }', ', eu-central-1b', ''],
    ['worker: { slots: % }', 64, 65],
    ['worker: { concurrency: % }', 64, 65],
    ['worker: { maxTasks: % }', 500, 501],
    ['worker: { maxTasks: % }', 1, 0],
    ['alarms: { backupAgeDays: % }', 7, 8],
    ['registries: { repositories: [{ name: a1, keepLast: % }] }', 100_000, 100_001],
  ] as const)('of %s: %s is accepted, %s is not', (setting, last, next) => {
    const refusedWith = (value: string | number): readonly string[] => refused(setting.replace('%', String(value)));
    expect(refusedWith(last)).toEqual([]);
    expect(refusedWith(next)).toHaveLength(1);
  });

  test('of aliases refuse a file before it fills the memory', () => {
    const twice = (name: string, of: string): string => `${name}: &${name} [${Array(10).fill(`*${of}`).join(', ')}]`;
    const bomb = ['a: &a [x]', twice('b', 'a'), twice('c', 'b'), twice('d', 'c'), twice('e', 'd')].join('\n');
    expect(refused(bomb)).toEqual([expect.stringMatching(/^test\.yaml: .*alias/i)]);
  });
});

describe('the account and the Region', () => {
  const HERE = { account: '222222222222', region: 'us-west-2' };

  test('are those of the credentials where the settings name none', () => {
    expect(parseSettings('version: 1', 'a.yaml', HERE)).toMatchObject(HERE);
    expect(parseSettings("version: 1\naccount: '111111111111'", 'a.yaml', HERE)).toMatchObject({
      account: '111111111111',
      region: 'us-west-2',
    });
  });

  test('are required where there are no credentials either', () => {
    expect(() => parseSettings('version: 1', 'a.yaml')).toThrow(
      /^a\.yaml: account: it is missing, and cdk has no AWS credentials to take it from: set it, or sign in to AWS and run cdk\na\.yaml: region: it is missing/,
    );
  });

  test('have stand-ins where nothing names them and templates are only shown, and never where they are deployed', () => {
    const folder = mkdtempSync(join(tmpdir(), 'transship-settings-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    onTestFinished(() => void vi.unstubAllEnvs());
    const notice = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    onTestFinished(() => notice.mockRestore());
    const file = join(folder, 'a.yaml');
    writeFileSync(file, 'version: 1\nregion: eu-central-1\n');
    for (const [name, value] of [
      ['TRANSSHIP_INFRA', file],
      ['CDK_DEFAULT_ACCOUNT', ''],
      ['CDK_DEFAULT_REGION', ''],
    ] as const)
      vi.stubEnv(name, value);
    expect(() => findSettings('b.yaml')).toThrow(/: account: it is missing/);
    expect(notice).not.toHaveBeenCalled();
    expect(findSettings('b.yaml', HERE)).toMatchObject({ account: '222222222222', region: 'eu-central-1' });
    expect(notice.mock.calls).toEqual([
      [`${file} and credentials do not name both account and region: showing 222222222222, eu-central-1\n`],
    ]);
    writeFileSync(file, 'version: 1\nprefix: Tea\n');
    expect(() => findSettings('b.yaml', HERE)).toThrow(/: prefix "Tea": expected/);
  });
});

describe('the defaults', () => {
  test('are safe, small and cheap', () => {
    expect(settingsOf('')).toEqual({
      version: 1,
      account: ACCOUNT,
      region: REGION,
      prefix: 'transship',
      tags: {},
      network: { type: 'own', cidr: '10.64.0.0/20', natGateways: 1 },
      fips: false,
      worker: {
        cpu: 1024,
        memoryMiB: 2048,
        architecture: 'arm64',
        slots: 2,
        concurrency: 4,
        maxTasks: 4,
        onDemandBase: 1,
        onDemandWeight: 0,
        spotWeight: 1,
        logLevel: 'info',
      },
      planEveryMinutes: 5,
      lookEveryHours: 24,
      encryption: 'aws',
      bucket: { storageClass: 'STANDARD', keepOldVersionsDays: 90 },
      access: { repositories: [], buckets: [], roles: [], secrets: [], keys: [] },
      notifications: { emails: [], topics: [] },
      alarms: {
        backupAgeDays: 2,
        runbook: 'docs/runbook.md',
        ruleLateHours: 2,
        verificationAgeHours: 192,
        drillAgeHours: 840,
        pullsPerFiveMinutes: 0,
        growthGiBPerDay: 500,
        growthGiBPerWeek: 1000,
        repositoryGiB: 1000,
        prunedPerDay: 5000,
      },
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
        repositories: [
          {
            name: 'product/api',
            pullAccounts: [],
            pushAccounts: [],
            pushOnly: [],
            deleteOnly: [],
            lambdaAccounts: [],
            existing: false,
            tags: {},
          },
        ],
        replication: [],
        templates: [],
        replicationSources: [],
        roles: { pull: [], push: [], cleanUp: [], pushFrom: [], names: {}, sessionHours: 1 },
      },
    ],
  ] as const)('apply next to %s', (more, name, whole) => {
    expect(settingsOf(more)[name]).toEqual(whole);
  });
});

describe('a setting that does not exist is refused', () => {
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

describe('a value that is not allowed is refused', () => {
  const TAG_KEY =
    'expected the key of a tag: up to 128 letters, digits, spaces and _ . : / = + - @, not beginning with aws:';
  const TAG_VALUE = 'expected the value of a tag: 1 to 256 letters, digits, spaces and _ . : / = + - @, in quotes';
  const CLASSES = '"STANDARD"|"STANDARD_IA"|"INTELLIGENT_TIERING"|"GLACIER_IR"|"GLACIER"|"DEEP_ARCHIVE"';
  test.each([
    [
      'notifications: { emails: [ops@example.com, operators] }',
      'notifications.emails.1 "operators": expected an e-mail address',
    ],
    ['prefix: Tea', 'prefix "Tea": expected up to 20 small letters, digits and "-"'],
    ['tags: { owner: 1 }', `tags.owner 1: ${TAG_VALUE}`],
    ["tags: { owner: 'a,b' }", `tags.owner "a,b": ${TAG_VALUE}`],
    // CloudFormation refuses an empty value for an alarm
    ["tags: { owner: '' }", `tags.owner "": ${TAG_VALUE}`],
    ["tags: { 'aws:owner': me }", `tags.aws:owner: ${TAG_KEY}`],
    ["tags: { '': me }", `tags."": ${TAG_KEY}`],
    [
      'tags: { Owner: me, owner: you }',
      'tags.owner "you": IAM treats it as the same tag as Owner: remove one of the two',
    ],
    [`tags: { ${many(48, (i) => `t${i}: x`)} }`, 'tags: 48 tags are more than the 47 that every resource accepts'],
    [
      `tags: { ${many(30, (i) => `t${i}: x`)} }\nregistries: { repositories: [{ name: a1, tags: { ${many(21, (i) => `u${i}: x`)} } }] }`,
      'registries.repositories.0.tags: together with the tags of all resources it has 51 tags, and ECR takes 50',
    ],
    ['planEveryMinutes: 0', 'planEveryMinutes 0: Too small: expected number to be >=1'],
    ['planEveryMinutes: 61', 'planEveryMinutes 61: Too big: expected number to be <=60'],
    [
      'logRetentionDays: 8',
      'logRetentionDays 8: Invalid option: expected one of 1|3|5|7|14|30|60|90|120|150|180|365|400|545|731|1096|1827',
    ],
    ['blobMounting: perhaps', 'blobMounting "perhaps": expected true or false'],
    ['encryption: alias/mine', 'encryption "alias/mine": expected the ARN of a KMS key, by its id and not an alias'],
    ['encryption: 1', 'encryption 1: expected aws, create, or the ARN of a KMS key, by its id and not an alias'],
    [
      `encryption: ${KEY_ELSEWHERE}`,
      `encryption "${KEY_ELSEWHERE}": what is in eu-central-1 is encrypted with a key of eu-central-1`,
    ],
    ['worker:', 'worker null: expected a mapping of keys to values'],
    ['worker: { cpu: .nan }', 'worker.cpu NaN: expected a number'],
    // an alarm without a threshold would be deployed
    [
      'alarms: { growthGiBPerDay: 1e300 }',
      'alarms.growthGiBPerDay 1e+300: Too big: expected number to be <=1000000000',
    ],
    ['alarms: { ruleLateHours: 1e300 }', 'alarms.ruleLateHours 1e+300: Too big: expected number to be <=876000'],
    [
      `notifications: { topics: [${many(5, (i) => `'arn:aws:sns:eu-central-1:111111111111:t${i}'`)}] }`,
      "notifications.topics: an alarm has five actions, one of them the stack's own topic: expected at most 4; one topic can notify many people",
    ],
    [
      'notifications: { topics: ["arn:aws:sns:eu-central-1:111111111111:one:5"] }',
      'notifications.topics.0 "arn:aws:sns:eu-central-1:111111111111:one:5": expected the ARN of a topic',
    ],
    [
      'notifications: { emails: [a@example.com, a@example.com] }',
      'notifications.emails.1 "a@example.com": is given twice',
    ],
    ['alarms: { ruleLateHours: 0 }', 'alarms.ruleLateHours 0: Too small: expected number to be >0'],

    ['bucket: { storageClass: COLD }', `bucket.storageClass "COLD": Invalid option: expected one of ${CLASSES}`],
    ...['10.0.0.1', 'xn--a', 'a..b', 'a.-b', 'archives-s3alias', 'archives--x-s3', 'sthree-a'].map(
      (name): [string, string] => [
        `bucket: { name: ${name} }`,
        `bucket.name "${name}": expected a bucket name that S3 accepts: dots between letters or digits, no IP address, no prefix or suffix that S3 reserves`,
      ],
    ),
    ['bucket: { name: Archives }', 'bucket.name "Archives": expected the name of a bucket'],
    ['bucket: { keepOldVersionsDays: 0 }', 'bucket.keepOldVersionsDays 0: Too small: expected number to be >=1'],
    ['bucket: { objectLock: { mode: governance } }', 'bucket.objectLock.days: it is missing'],
    [
      'bucket: { existing: archives, name: mine }',
      'bucket.name "mine": names a bucket to create: this one exists already',
    ],
    [
      'bucket: { existing: archives, objectLock: { mode: compliance, days: 30 } }',
      'bucket.objectLock: applies only to a bucket that is created: this one exists already',
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
      'network.availabilityZones.1 "us-east-1b": it is not an availability zone of eu-central-1',
    ],
    [
      'network: { type: public, availabilityZones: [eu-central-1a, eu-central-1a] }',
      'network.availabilityZones.1 "eu-central-1a": is given twice',
    ],
    [
      'network: { type: own, cidr: 10.0.0.0/24, availabilityZones: [eu-central-1a, eu-central-1b, eu-central-1c, eu-central-1d, eu-central-1e, eu-central-1f] }',
      'network.cidr "10.0.0.0/24": it is too small for subnets in 6 zones',
    ],
    [
      'network: { type: own, cidr: 127.0.0.0/16 }',
      'network.cidr "127.0.0.0/16": a VPC cannot have these addresses: use a range of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16',
    ],
    [
      'network: { type: existing, vpcId: vpc-01234567, subnetIds: [subnet-01234567, subnet-01234567], availabilityZones: [eu-central-1a] }',
      'network.subnetIds.1 "subnet-01234567": is given twice',
    ],
    [
      'network: { type: existing, vpcId: mine, subnetIds: [subnet-01234567], availabilityZones: [eu-central-1a] }',
      'network.vpcId "mine": expected the id of a VPC',
    ],

    [
      'worker: { cpu: 1000 }',
      'worker.cpu 1000: Fargate does not offer tasks with 1000 CPU units: expected one of 256, 512, 1024, 2048, 4096, 8192, 16384, 32768',
    ],
    [
      'worker: { cpu: 256, memoryMiB: 4096 }',
      'worker.memoryMiB 4096: Fargate does not offer tasks with 256 CPU units and 4096 MiB: expected 512 to 2048 MiB (512, 1024, 2048)',
    ],
    [
      'worker: { cpu: 4096 }',
      'worker.memoryMiB: Fargate does not offer tasks with 4096 CPU units and 2048 MiB: expected 8192 to 30720 MiB (by the GiB)',
    ],
    ['worker: { spotWeight: 0 }', 'worker.spotWeight 0: set onDemandWeight or spotWeight to more than 0'],
    ['worker: { onDemandBase: -1 }', 'worker.onDemandBase -1: Too small: expected number to be >=0'],
    ['worker: { slots: 65 }', 'worker.slots 65: Too big: expected number to be <=64'],
    ['worker: { maxTasks: 0 }', 'worker.maxTasks 0: Too small: expected number to be >=1'],
    // a task could not pull it: permissions are granted for registries of ECR only
    ...[
      `${ECR}/transship`,
      `${ECR}/transship:1@sha256:${'0'.repeat(64)}`,
      `${ECR}/transship@sha256`,
      `${ECR}/Transship:1`,
      `${ECR.replace('.ecr.', '.ecr-fips.')}/transship:1`,
      '111111111111.dkr-ecr.eu-central-1.on.aws/transship:1',
    ].map((image): [string, string] => [
      `worker: { image: '${image}' }`,
      `worker.image "${image}": expected an image of ECR with either a tag or a digest, such as 111111111111.dkr.ecr.us-east-1.amazonaws.com/transship:1.0.0`,
    ]),
    [
      'worker: { image: "the last one" }',
      'worker.image "the last one": expected an image, such as ghcr.io/owner/transship:1.0.0',
    ],
  ])('%s', (more, message) => {
    expect(refused(more)).toEqual([`test.yaml: ${message}`]);
  });

  test('account and region must be digits in quotes, and a name', () => {
    expect(() => parseSettings(`version: 1\naccount: ${ACCOUNT}\nregion: mars`, 'a.yaml')).toThrow(
      new SettingsError(
        `a.yaml: account ${ACCOUNT}: expected the twelve digits of an account, in quotes\na.yaml: region "mars": expected the name of a region, such as us-east-1`,
      ),
    );
  });
});

describe('access that cannot be granted is refused', () => {
  const ROLE = 'arn:aws:iam::222222222222:role';
  const SECRET = 'arn:aws:secretsmanager:eu-central-1:111111111111:secret';
  const SECRET_EXPECTED =
    'expected the ARN of a secret, whole, with the six characters that Secrets Manager adds to its name';
  test.each([
    ['roles', `${ROLE}/*`, 'expected the ARN of a role'],
    ['roles', 'arn:aws:iam::222222222222:user/one', 'expected the ARN of a role'],
    ['secrets', `${SECRET}:*`, SECRET_EXPECTED],
    // the role would admit nothing: the ARN of the secret is longer
    ['secrets', `${SECRET}:hub`, SECRET_EXPECTED],
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

  test('access to a whole bucket and to a part of it is accepted', () => {
    expect(refused("access: { buckets: [{ name: '*', allow: read }] }")).toEqual([
      'test.yaml: access.buckets.0.name "*": expected the name of a bucket',
    ]);
    expect(refused("access: { buckets: [{ name: archives, prefix: 'a*', allow: read }] }")).toEqual([
      'test.yaml: access.buckets.0.prefix "a*": expected the start of keys, without wildcards',
    ]);
  });

  test('repositories without a name, or with another access than read and write, are refused', () => {
    expect(refused("access: { repositories: [{ names: [], allow: admin }, { names: ['API'], allow: read }] }")).toEqual(
      [
        'test.yaml: access.repositories.0.names: Too small: expected array to have >=1 items',
        'test.yaml: access.repositories.0.allow "admin": Invalid option: expected one of "read"|"write"',
        'test.yaml: access.repositories.1.names.0 "API": expected the name of a repository, or a pattern such as product/*',
      ],
    );
  });
});

describe('prune and publish settings that are refused', () => {
  const PLACE =
    'expected s3://bucket/prefix/, or prefix/ of the bucket of the deployment (all of it: /), ending in / and without wildcards';
  test.each([
    ['prune: {}', 'prune: it is empty: name repositories, prefixes, stores or scratch repositories, or remove it'],
    [
      "prune: { repositories: [{ names: ['CI'] }] }",
      'prune.repositories.0.names.0 "CI": expected the name of a repository, or a pattern such as product/*',
    ],
    [
      'prune: { repositories: [{ names: [a], allow: write }] }',
      'prune.repositories.0: there is no setting "allow" here',
    ],
    [
      `prune: { repositories: [{ names: [${many(300, (i) => `product/team-${100 + i}/service-${100 + i}`)}] }] }`,
      'prune.repositories: 300 names are more than a role has room for, which is some 282: name more of them by patterns such as ci/*',
    ],
    [
      `prune: { repositories: [{ names: [a] }], scratch: [{ prefixes: [${many(200, (i) => `scratch/team-${100 + i}/service-${100 + i}`)}] }] }`,
      'prune.scratch: 401 names are more than a role has room for, which is some 282: let drills share a prefix such as drills',
    ],
    [
      'prune: { repositories: [{ names: [a], region: cn-north-1 }] }',
      'prune.repositories.0.region "cn-north-1": cn-north-1 is of aws-cn, and eu-central-1 of aws: neither can reach the other',
    ],
    [
      "prune: { roles: ['arn:aws-cn:iam::222222222222:role/a'] }",
      'prune.roles.0 "arn:aws-cn:iam::222222222222:role/a": expected an ARN of eu-central-1, which begins with arn:aws:',
    ],
    // `prod` would also match `production`
    ...[
      's3://archives',
      's3://archives/prod',
      'prod',
      '',
      's3:///a/',
      '/a/',
      's3://archives//a/',
      's3://archives/*/',
      'a/$aws/',
      'a?/',
    ].map((place): [string, string] => [`prune: { prefixes: ['${place}'] }`, `prune.prefixes.0 "${place}": ${PLACE}`]),
    ["prune: { prefixes: ['s3://Archives/a/'] }", 'prune.prefixes.0 "s3://Archives/a/": expected the name of a bucket'],
    ["publish: { prefixes: ['a/', 'a/'] }", 'publish.prefixes.1 "a/": is given twice'],
    ['publish: { prefixes: [] }', 'publish.prefixes: Too small: expected array to have >=1 items'],
    [
      `access: { buckets: [${many(100, (i) => `{ name: bucket-${i}, allow: read }`)}] }\npublish: { prefixes: ['s3://other/'] }`,
      "publish.prefixes: together with access.buckets they are 101 places, and the endpoint of the workers' network has room for 100: name fewer, larger prefixes",
    ],
    ['alarms: { prunedPerDay: 0 }', 'alarms.prunedPerDay 0: Too small: expected number to be >=1'],
  ])('%s', (more, message) => {
    expect(refused(more)).toEqual([`test.yaml: ${message}`]);
  });
});

describe('a network without a way out refuses what it cannot reach', () => {
  const CLOSED = 'network: { type: own, natGateways: 0 }';
  const FAR = 'workers cannot reach anything outside eu-central-1 with network.natGateways: 0';
  test.each([
    [
      'access: { repositories: [{ region: us-east-1, names: [a1], allow: read }] }',
      `access.repositories.0.region "us-east-1": ${FAR}`,
    ],
    [
      "access: { secrets: ['arn:aws:secretsmanager:us-east-1:111111111111:secret:hub-AbCdEf'] }",
      `access.secrets.0 "arn:aws:secretsmanager:us-east-1:111111111111:secret:hub-AbCdEf": ${FAR}`,
    ],
    [
      'worker: { image: ghcr.io/owner/transship:1.0.0 }',
      `worker.image "ghcr.io/owner/transship:1.0.0": ${FAR}: a task can only pull an image of ECR in eu-central-1`,
    ],
  ])('%s', (more, message) => {
    expect(refused(`${CLOSED}\n${more}`)).toEqual([`test.yaml: ${message}`]);
    expect(refused(more)).toEqual([]);
  });

  test('it accepts what is in the Region', () => {
    expect(refused(`${CLOSED}\nworker: { image: '${ECR}/transship:1.0.0' }`)).toEqual([]);
  });
});

describe('another partition is refused', () => {
  const CHINA = 'neither can reach the other';
  test.each([
    [
      'registries: { replication: [{ region: cn-north-1 }] }',
      'registries.replication.0.region "cn-north-1": cn-north-1',
    ],
    ["vault: { account: '222222222222', region: cn-north-1 }", 'vault.region "cn-north-1": cn-north-1'],
    [
      'access: { repositories: [{ region: cn-north-1, names: [a1], allow: read }] }',
      'access.repositories.0.region "cn-north-1": cn-north-1',
    ],
  ])('%s', (more, at) => {
    expect(refused(more)).toEqual([`test.yaml: ${at} is of aws-cn, and eu-central-1 of aws: ${CHINA}`]);
  });

  test('roles, which IAM would refuse in a policy', () => {
    const role = 'arn:aws-us-gov:iam::222222222222:role/registry';
    expect(refused(`access: { roles: ['${role}'] }`)).toEqual([
      `test.yaml: access.roles.0 "${role}": expected an ARN of eu-central-1, which begins with arn:aws:`,
    ]);
  });

  test('it accepts every partition by itself', () => {
    const text = `version: 1\naccount: '${ACCOUNT}'\nregion: cn-north-1\nencryption: arn:aws-cn:kms:cn-north-1:${ACCOUNT}:key/10000000-0000-4000-8000-000000000000\nregistries: { replication: [{ region: cn-northwest-1 }] }`;
    expect(parseSettings(text, 'a.yaml').region).toBe('cn-north-1');
  });
});

describe('registries', () => {
  test.each([
    [
      `repositories: [${many(481, (i) => `{ name: a${i} }`)}]`,
      'repositories: 481 make 481 resources, and CloudFormation has room for 480 in a stack: remove some of them, or move them to settings with another prefix',
    ],
    [
      `repositories: [{ name: a1, pullAccounts: [${many(201, (i) => `'${100_000_000_000 + i}'`)}] }]`,
      'repositories.0.pullAccounts: 201 accounts are more than the 200 that a policy of ECR has room for',
    ],
    [
      `replicationSources: [${many(46, (i) => `{ account: '${100_000_000_000 + i}' }`)}]`,
      'replicationSources: 46 accounts with their prefixes are more than the policy of a registry has room for: give them fewer prefixes, or remove accounts',
    ],
    [
      `repositories: [{ name: a1 }], roles: { pull: [${many(60, (i) => `'arn:aws:iam::222222222222:role/pull-${i}'`)}] }`,
      'roles.pull: 60 principals are more than the trust of a role has room for: name the root of an account, or roles that many may assume',
    ],
    [
      'templates: [{ prefix: product, appliedFor: [REPLICATION] }, { prefix: product/, appliedFor: [REPLICATION] }]',
      'templates.1.prefix "product/": is given twice: a registry has one template for each prefix',
    ],
    [
      'templates: [{ prefix: product, appliedFor: [REPLICATION, REPLICATION] }]',
      'templates.0.appliedFor.1 "REPLICATION": is given twice',
    ],
    ...['product-', 'a//b', 'Root', '1/'].map((prefix): [string, string] => [
      `templates: [{ prefix: ${prefix === '1/' ? '1' : prefix}, appliedFor: [REPLICATION] }]`,
      `templates.0.prefix ${prefix === '1/' ? '1' : `"${prefix}"`}: expected the first parts of the names of repositories, such as product for product/api and all others below it, or ROOT for all`,
    ]),
    [
      'replication: [{ region: eu-west-1, prefixes: [a//b] }]',
      'replication.0.prefixes.0 "a//b": expected the start of repository names, such as product/',
    ],
  ])('%.80s', (inside, message) => {
    expect(refused(`registries: { ${inside} }`)).toEqual([`test.yaml: registries.${message}`]);
  });

  test('names that ECR accepts are accepted', () => {
    expect(
      refused(
        'registries: { repositories: [{ name: a__b/c--d/e.f_g }], replication: [{ region: eu-west-1, prefixes: [ab-, a/] }] }',
      ),
    ).toEqual([]);
  });
});

describe('cron', () => {
  const vault = (cron: string): readonly string[] =>
    refused(`vault: { account: '222222222222', region: eu-west-1, restoreTest: { cron: '${cron}' } }`);
  const EXPECTED =
    'expected minutes, hours, day of month, month, day of week and year, one of the two days being ?: such as 0 5 * * ? *';

  // the examples of https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html, and others
  test.each([
    '0 10 * * ? *',
    '0 18 ? * MON-FRI *',
    '0 8 1 * ? *',
    '0/10 * ? * MON-FRI *',
    '0 9 ? * 2#1 *',
    '0 9 ? * MON#1 *',
    '30 0 L * ? 2026-2030',
    '0 5 LW JAN,JUL ? *',
    '0 5 3W 1/3 ? *',
    '0 5 ? * 5L *',
    '15 * ? * * *',
  ])('%s is one', (cron) => {
    expect(vault(cron)).toEqual([]);
  });

  test.each([
    '60 5 * * ? *',
    '0 24 * * ? *',
    '0 5 0 * ? *',
    '0 5 32 * ? *',
    '0 5 * 13 ? *',
    '0 5 * FOO ? *',
    '0 5 ? * 0 *',
    '0 5 ? * MON#6 *',
    '0 5 * * ? 1969',
    '0 5 * * ?',
    '0 5 * * * *',
    '0 5 ? * ? *',
    '0/0 5 * * ? *',
    '0 5  * * ? *',
    ' 0 5 * * ? *',
    '0,,1 5 * * ? *',
    '0 5 *-3 * ? *',
    '-1 5 * * ? *',
  ])('%s is refused', (cron) => {
    expect(vault(cron)).toEqual([`test.yaml: vault.restoreTest.cron "${cron}": ${EXPECTED}`]);
  });

  test('a plan of AWS Backup every five minutes is refused', () => {
    expect(refused("vault: { account: '222222222222', region: eu-west-1, plan: { cron: '*/5 * * * ? *' } }")).toEqual([
      'test.yaml: vault.plan.cron "*/5 * * * ? *": AWS Backup starts at most once an hour: expected one number of minutes, such as 0 5 * * ? *',
    ]);
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
])('tasks of %d CPU units have %d to %d MiB, and no other sizes', (cpu, least, most) => {
  const allowed = (memoryMiB: number): boolean =>
    refused(`worker: { cpu: ${cpu}, memoryMiB: ${memoryMiB} }`).length === 0;
  expect([least, most].map(allowed)).toEqual([true, true]);
  expect([least / 2, least - 1, most + 1, most + 8192].map(allowed)).toEqual([false, false, false, false]);
});

describe('a settings file', () => {
  test('reports the place of an error in YAML', () => {
    expect(() => parseSettings('version: [', 'a.yaml')).toThrow(/^a\.yaml: .*line 1, column 11/s);
    expect(() => parseSettings('version: 1\nversion: 1', 'a.yaml')).toThrow(
      /^a\.yaml: Map keys must be unique at line 2/,
    );
  });

  test('reports an alias of nothing', () => {
    expect(() => parseSettings('version: *one', 'a.yaml')).toThrow(
      new SettingsError('a.yaml: Unresolved alias (the anchor must be set before the alias): one'),
    );
  });

  test.each(['', '# nothing', '~', '---'])('with the content %j is reported as empty', (text) => {
    expect(() => parseSettings(text, 'a.yaml')).toThrow(
      new SettingsError('a.yaml: the file is empty: expected at least version, account and region'),
    );
  });

  test.each([
    ['version: 1\n---\nversion: 1\n', 'there is a second document after a line of ---: expected one'],
    ['{ a: b }: 1', 'the name of a setting is a list or a group: expected a string'],
    ['['.repeat(5000), 'it is nested too deeply for settings'],
    [`a: ${'x'.repeat(10_000_000)}`, 'it has 10000003 bytes: expected settings of at most 262144 bytes'],
  ])('of %.20j is refused with a message', (text, message) => {
    expect(() => parseSettings(text, 'a.yaml')).toThrow(new SettingsError(`a.yaml: ${message}`));
  });

  test('with tags of CloudFormation is refused, not read without them', () => {
    expect(() => parseSettings('prefix: !Ref Name', 'a.yaml')).toThrow(/^a\.yaml: Unresolved tag: !Ref at line 1/);
  });

  test('shows at most a line of a wrong value, without control characters of a terminal', () => {
    expect(refused(`prefix: ${'x'.repeat(1000)}`)).toEqual([
      `test.yaml: prefix "${'x'.repeat(200)}…": expected up to 20 small letters, digits and "-"`,
    ]);
    expect(refused('"\\e[31m": 1')).toEqual(['test.yaml: there is no setting "\\u001b[31m" here']);
  });

  test('may reuse a list by an alias, many times', () => {
    const text = `registries: { repositories: [{ name: a1, tags: &tags { owner: me } }, ${many(60, (i) => `{ name: b${i}, tags: *tags }`)}] }`;
    expect(settingsOf(text).registries?.repositories.at(-1)?.tags).toEqual({ owner: 'me' });
  });

  test('with CRLF, or a byte order mark, is read like any other', () => {
    const text = `\uFEFFversion: 1\r\naccount: '${ACCOUNT}'\r\nregion: ${REGION}\r\n`;
    expect(parseSettings(text, 'a.yaml')).toEqual(settingsOf(''));
  });

  test('in UTF-16, or that is a folder, is reported', () => {
    const folder = mkdtempSync(join(tmpdir(), 'transship-settings-'));
    try {
      const file = join(folder, 'mine.yaml');
      writeFileSync(file, '\uFEFFversion: 1\n', 'utf16le');
      expect(() => readSettings(file)).toThrow(new SettingsError(`${file}: it is not UTF-8: save it as UTF-8`));
      expect(() => readSettings(folder)).toThrow(/^\S+ cannot be read: EISDIR/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each(['[]', 'text', '1'])('with the content %j is refused', (text) => {
    expect(() => parseSettings(text, 'a.yaml')).toThrow(/^a\.yaml: the file.*expected a mapping/);
  });

  test('reports what to do when it does not exist', () => {
    expect(() => readSettings('nowhere.yaml')).toThrow(
      new SettingsError('nowhere.yaml cannot be read: copy one of infra/examples/ and name it with TRANSSHIP_INFRA'),
    );
  });

  test('is read when it exists', () => {
    const folder = mkdtempSync(join(tmpdir(), 'transship-settings-'));
    try {
      const file = join(folder, 'mine.yaml');
      writeFileSync(file, `version: 1\naccount: '${ACCOUNT}'\nregion: ${REGION}\n`);
      expect(readSettings(file)).toEqual(settingsOf(''));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('with any content is read, or refused as SettingsError', () => {
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

describe('the alarm of missing backups', () => {
  const vault = (cron: string, backupAgeDays?: number): readonly string[] =>
    refused(
      `vault: { account: '222222222222', region: eu-west-1, plan: { cron: '${cron}' } }\nalarms: {${
        backupAgeDays === undefined ? '' : ` backupAgeDays: ${backupAgeDays} `
      }}`,
    );

  test('is refused where it would fire between any two backups of the plan', () => {
    expect(vault('0 5 ? * MON *')).toEqual([
      'test.yaml: alarms.backupAgeDays: 7 days pass between two backups of vault.plan.cron, and an alarm looks back at most 7 days: set it to 0 and rely on the alarm about failed backups, or back up at least every six days',
    ]);
    expect(vault('0 5 ? * MON,THU *')).toEqual([
      'test.yaml: alarms.backupAgeDays: 4 days pass between two backups of vault.plan.cron, so this alarm would fire before each: expected 5 or more',
    ]);
    expect(vault('0 5 29 2 ? *')).toEqual([expect.stringContaining('1461 days pass between')]);
  });

  test('is accepted where it looks back further than to the previous backup, and where it does not exist', () => {
    expect(vault('0 5 * * ? *')).toEqual([]);
    expect(vault('0 5 ? * MON,THU *', 5)).toEqual([]);
    expect(vault('0 5 ? * MON *', 0)).toEqual([]);
    expect(refused('alarms: { backupAgeDays: 1 }')).toEqual([]);
  });

  test.each([
    ['0 5 * * ? *', 1],
    ['0 5 ? * MON-FRI *', 3],
    ['0 5 ? * 2,5 *', 4],
    ['0 5 ? * 1/2 *', 2],
    ['0 5 1,15 * ? *', 17],
    ['0 5 1/10 * ? *', 10],
    ['0 5 L * ? *', 31],
    ['0 5 15W * ? *', 31],
    ['0 5 ? * SUN#1 *', 35],
    ['0 5 ? * 6L *', 35],
    ['0 5 ? * L *', 7],
    ['0 5 * JAN-JUN ? *', 185],
  ])('%s leaves at most %i days between two times', (cron, days) => {
    expect(longestGapDays(cron)).toBe(days);
  });
});
