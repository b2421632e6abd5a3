// Compares, both ways, the calls in the code with infra/service/grants.ts and with the roles of the templates.
import { globSync, readFileSync } from 'node:fs';
import { Template } from 'aws-cdk-lib/assertions';
import { afterAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { CALLS, KEY_ACTIONS, type Caller, type ResourceKind } from '../../infra/service/grants.ts';
import { readSettings } from '../../infra/settings/settings.ts';
import type { InfraSettings } from '../../infra/settings/schema.ts';
import { readCallGraph } from '../support/call-graph.ts';
import { EXAMPLES, settingsOf, stacksOf, textOf } from './templates.ts';

const SOURCES = globSync('worker/**/*.ts').map((file) => ({ file, text: readFileSync(file, 'utf8') }));

/** The services of clients, by their names in IAM and in the table. */
const SERVICES: Readonly<Record<string, string>> = { 'secrets-manager': 'secretsmanager' };
const serviceOf = (client: string): string => SERVICES[client] ?? client;

function all(text: string, pattern: RegExp): readonly RegExpExecArray[] {
  return [...text.matchAll(pattern)];
}

/** Calls of the SDK in source text: `new sdk.GetItemCommand(`, and methods of clients that have one for each command. */
async function sdkCallsIn(text: string, whole: string): Promise<readonly string[]> {
  const clients = [...new Set(all(whole, /'@aws-sdk\/client-([a-z0-9-]+)'/g).map(([, client = '']) => client))];
  const known = await Promise.all(
    clients.map(async (client) => {
      const names: unknown = await import(`@aws-sdk/client-${client}`);
      return {
        service: serviceOf(client),
        names: new Set(Object.keys(z.record(z.string(), z.unknown()).parse(names))),
      };
    }),
  );
  const made = new Map(
    all(whole, /const (\w+) = new (\w+)\(/g).map(([, variable = '', type = '']) => [variable, type]),
  );
  const callOf = (call: string, receiver?: string): readonly string[] => {
    const type = receiver === undefined ? undefined : made.get(receiver);
    const owner = known.find(({ names }) => names.has(`${call}Command`) && (type === undefined || names.has(type)));
    return owner === undefined ? [] : [`${owner.service}.${call}`];
  };
  return [
    ...all(text, /new (?:\w+\.)?(\w+)Command\(/g).flatMap(([, call = '']) => callOf(call)),
    ...all(text, /\b(\w+)\.([a-z]\w+)\(/g).flatMap(([, receiver, [first = '', ...rest] = '']) =>
      callOf(`${first.toUpperCase()}${rest.join('')}`, receiver),
    ),
  ];
}

/** Every AWS call in source text. */
async function callsIn({ file, text }: { readonly file: string; readonly text: string }): Promise<readonly string[]> {
  const calls = [...(await sdkCallsIn(text, sourceOf(file)))];
  if (file.startsWith('worker/registry/'))
    for (const [, operation = ''] of all(text, /\boperation: '([a-z-]+)'/g)) calls.push(`registry ${operation}`);
  if (text.includes('fromTemporaryCredentials(')) calls.push('sts.AssumeRole');
  if (text.includes('/task-protection/')) calls.push('ecs.UpdateTaskProtection');
  return calls;
}

async function callsOf(
  pieces: readonly { readonly file: string; readonly text: string }[],
): Promise<ReadonlySet<string>> {
  return new Set((await Promise.all(pieces.map(callsIn))).flat());
}

/** The entry points of the processes that have a role. */
const ENTRY_POINTS: Readonly<Record<Caller, string>> = {
  worker: 'worker/main/run-worker.ts runWorker',
  planner: 'worker/main/planner.lambda.ts handler',
  cleaner: 'worker/main/cleaner.lambda.ts handler',
  restoreTest: 'worker/main/restore-test.lambda.ts handler',
};

describe('the table', () => {
  test('has every call of the source, and no other', async () => {
    expect(Object.keys(CALLS).toSorted()).toEqual([...(await callsOf(SOURCES))].toSorted());
  });

  // computed once, because it takes seconds
  const graph = readCallGraph();
  afterAll(() => graph[Symbol.dispose]());

  test.each(Object.entries(ENTRY_POINTS))('grants the %s only calls that it can reach', async (caller, entry) => {
    const reached = await callsOf(graph.reachableFrom(entry));
    const granted = Object.entries(CALLS).filter(([, { by }]) =>
      Object.values(by).some((callers) => callers.some((one) => one === caller)),
    );
    expect(granted.length).toBeGreaterThan(caller === 'restoreTest' ? 3 : 10);
    expect(granted.map(([name]) => name).filter((name) => !reached.has(name))).toEqual([]);
  });

  test('misses no file that calls a client of the SDK, since each imports the types of its client', () => {
    const calling = SOURCES.filter(({ file, text }) => !file.startsWith('worker/util/') && /\bsdkOptions\b/.test(text));
    expect(calling.length).toBeGreaterThan(0);
    for (const { file, text } of calling) expect(text, file).toContain("'@aws-sdk/client-");
  });

  test('has every request to registries that has a name', () => {
    const [, union = ''] = /export type Operation =([^;]*);/.exec(sourceOf('worker/registry/transport/layer.ts')) ?? [];
    const operations = all(union, /'([a-z-]+)'/g).map(([, name]) => `registry ${name}`);
    expect(operations.toSorted()).toEqual(
      Object.keys(CALLS)
        .filter((name) => name.startsWith('registry '))
        .toSorted(),
    );
  });

  test('names for requests to ECR the same permissions as failure messages', () => {
    const [, rows = ''] = /const ACTIONS[^=]*= \{([^}]*)\}/.exec(sourceOf('worker/registry/ecr/actions.ts')) ?? [];
    const told = all(rows, /'([a-z-]+)': '([^']*)'/g).map(([, name, words = '']) => [
      `registry ${name}`,
      actionsIn(words),
    ]);
    const table = Object.entries(CALLS).filter(([name]) => name.startsWith('registry '));
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(table.map(([name, { actions }]) => [name, actions])));
  });

  test('has for each call the action of the same name, except where IAM names it otherwise', () => {
    const otherwise: Readonly<Record<string, readonly string[]>> = {
      // https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
      's3.HeadObject': ['s3:GetObject'],
      's3.ListObjectsV2': ['s3:ListBucket'],
      's3.DeleteObjects': ['s3:DeleteObject'],
      's3.CreateMultipartUpload': ['s3:PutObject'],
      's3.UploadPart': ['s3:PutObject'],
      // https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
      's3.UploadPartCopy': ['s3:GetObject', 's3:PutObject'],
      's3.CompleteMultipartUpload': ['s3:PutObject'],
      's3.ListParts': ['s3:ListMultipartUploadParts'],
      's3.ListMultipartUploads': ['s3:ListBucketMultipartUploads'],
      'sqs.SendMessageBatch': ['sqs:SendMessage'],
      'sqs.DeleteMessageBatch': ['sqs:DeleteMessage'],
      // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
      'dynamodb.TransactWriteItems': ['dynamodb:UpdateItem'],
      // creates with tags
      'ecr.CreateRepository': ['ecr:CreateRepository', 'ecr:TagResource'],
      // https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html
      'ecr-public.GetAuthorizationToken': ['ecr-public:GetAuthorizationToken', 'sts:GetServiceBearerToken'],
    };
    const calls = Object.entries(CALLS).filter(([name]) => !name.startsWith('registry '));
    for (const [name, { actions }] of calls) expect(actions, name).toEqual(otherwise[name] ?? [name.replace('.', ':')]);
  });

  test('has every action that a failure message names, and messages name no call outside the table', () => {
    const granted = new Set<string>([
      ...Object.values(CALLS).flatMap(({ actions }) => actions),
      ...Object.values(KEY_ACTIONS).flat(),
      // only commands read a version that a snapshot names. The call is that of s3:GetObject
      's3:GetObjectVersion',
    ]);
    const asked = SOURCES.flatMap(({ text }) => actionsIn(text));
    expect(asked.length).toBeGreaterThan(30);
    // for a version that a snapshot names: no process of the service restores snapshots of archives, and a person's role may or may not allow it
    const byHand = new Set(['s3:GetObjectVersion']);
    expect(asked.filter((action) => !granted.has(action) && !byHand.has(action))).toEqual([]);
    for (const { file, text } of SOURCES)
      // `serve --redirect` signs s3:GetObject; no role of the service runs it
      if (!file.endsWith('objects/s3/presign.ts'))
        expect(
          /\b(?:paginate[A-Z]|waitUntil[A-Z]|waitFor[A-Z])\w*\(|lib-storage|request-presigner/.exec(text),
          file,
        ).toBe(null);
  });
});

/** Names of actions in a string, of the services that the code calls. */
function actionsIn(text: string): readonly string[] {
  return (
    text.match(/\b(?:sqs|dynamodb|s3|ecr|ecr-public|sts|secretsmanager|ecs|kms|backup):[A-Z][a-z]\w+(?!\/)/g) ?? []
  );
}

function sourceOf(file: string): string {
  const found = SOURCES.find((source) => source.file === file);
  if (found === undefined) throw new Error(`there is no ${file}`);
  return found.text;
}

const strings = z.union([z.string().transform((one) => [one]), z.array(z.string())]);
const statements = z.array(
  z.object({
    Effect: z.literal('Allow').or(z.literal('Deny')),
    Action: strings,
    Resource: z.unknown(),
    Condition: z.unknown().optional(),
  }),
);
const viaService = z.strictObject({ StringEquals: z.strictObject({ 'kms:ViaService': z.array(z.unknown()) }) });
type Statement = z.infer<typeof statements>[number];

/** Statements by the logical id of the role; of roles only, without those of resource policies. */
function statementsOf(template: Template): ReadonlyMap<string, readonly Statement[]> {
  const found = new Map<string, Statement[]>();
  const add = (role: string, document: unknown): void => {
    const { Statement } = z.object({ Statement: statements }).parse(document);
    found.set(role, [...(found.get(role) ?? []), ...Statement]);
  };
  for (const type of ['AWS::IAM::Policy', 'AWS::IAM::ManagedPolicy'])
    for (const { Properties } of Object.values(template.findResources(type)))
      for (const { Ref } of z.array(z.object({ Ref: z.string() })).parse(Properties.Roles))
        add(Ref, Properties.PolicyDocument);
  for (const [id, { Properties }] of Object.entries(template.findResources('AWS::IAM::Role')))
    for (const { PolicyDocument } of Properties.Policies ?? []) add(id, PolicyDocument);
  return found;
}

function permissions(some: readonly Statement[]): readonly string[] {
  const lines = some.flatMap(({ Action, Effect, Resource }) =>
    (Array.isArray(Resource) ? Resource : [Resource]).flatMap((resource) =>
      Action.map((action) => `${Effect === 'Allow' ? '' : 'not '}${action} on ${textOf(resource)}`),
    ),
  );
  return [...new Set(lines)].toSorted();
}

function exampleOf(name: (typeof EXAMPLES)[number]): InfraSettings {
  return readSettings(`infra/examples/${name}.yaml`);
}

/** What the role of a process must allow by the table and the settings: no more, no less. */
function expected(caller: Caller, s: InfraSettings): readonly string[] {
  const lines = new Set<string>();
  const add = (kind: ResourceKind, allow: 'read' | 'write', resources: readonly string[]): void => {
    for (const { actions, by, writes = false } of Object.values(CALLS))
      if (by[kind]?.includes(caller) === true && (!writes || allow === 'write'))
        for (const action of actions) for (const resource of resources) lines.add(`${action} on ${resource}`);
  };
  const ownBucket = s.bucket.existing === undefined ? '<StorageBucket.Arn>' : `arn:aws:s3:::${s.bucket.existing}`;
  add('jobs', 'write', ['<QueuesJobs.Arn>']);
  add('requests', 'write', ['<QueuesRequests.Arn>']);
  if (s.largeJobs !== undefined) add('largeJobs', 'write', ['<QueuesLargeJobs.Arn>']);
  add('deadLetters', 'write', ['<QueuesDeadLetters.Arn>']);
  add('table', 'write', ['<StorageTable.Arn>']);
  add('bucket', 'write', [ownBucket]);
  add('uploads', 'write', [ownBucket]);
  add('object', 'write', [`${ownBucket}/*`]);
  add('task', 'write', [`arn:aws:ecs:${s.region}:${s.account}:task/<WorkersCluster>/*`]);
  add('workers', 'write', ['<WorkersService>', ...(s.largeJobs === undefined ? [] : ['<LargeWorkersService>'])]);
  add('account', 'write', ['*']);
  const stores = s.prune?.stores.map(placeOf) ?? [];
  const places = [...(s.prune?.prefixes.map(placeOf) ?? []), ...stores];
  const published = (s.publish?.prefixes.map(placeOf) ?? []).filter(
    (one) => !s.access.buckets.some(({ name, prefix }) => name === one.name && one.prefix.startsWith(prefix)),
  );
  const foreign = (some: typeof places): readonly { name: string; prefix: string; allow: 'read' }[] =>
    some.flatMap(({ name, prefix }) => (name === undefined ? [] : [{ name, prefix, allow: 'read' }]));
  for (const { name, prefix, allow } of [...s.access.buckets, ...foreign(caller === 'cleaner' ? places : published)]) {
    add('bucket', allow, [`arn:aws:s3:::${name}`]);
    add('uploads', allow, [`arn:aws:s3:::${name}`]);
    add('object', allow, [`arn:aws:s3:::${name}/${prefix}*`]);
  }
  const pruned = s.prune?.repositories.map((some) => ({ ...some, allow: 'read' as const })) ?? [];
  for (const { account = s.account, region = s.region, names, allow } of caller === 'cleaner'
    ? pruned
    : s.access.repositories) {
    const registry = `arn:aws:ecr:${region}:${account}:repository/`;
    const arns = names.map((name) => `${registry}${name}`);
    add('registry', allow, [`${registry}*`]);
    add('repository', allow, arns);
    if (caller === 'cleaner') add('prunedRepository', 'write', arns);
  }
  for (const { account = s.account, region = s.region, names, restoreArchived } of s.access.repositories)
    if (restoreArchived === true)
      add(
        'archivedRepository',
        'read',
        names.map((name) => `arn:aws:ecr:${region}:${account}:repository/${name}`),
      );
  for (const { account = s.account, region = s.region, prefixes } of s.prune?.scratch ?? []) {
    if (caller !== 'cleaner') continue;
    const registry = `arn:aws:ecr:${region}:${account}:repository/`;
    add('registry', 'read', [`${registry}*`]);
    for (const kind of ['scratchRepository', 'markedRepository'] as const)
      add(
        kind,
        'write',
        prefixes.map((name) => `${registry}${name}/transship-drill-*`),
      );
  }
  const { roles, secrets } = caller === 'cleaner' ? (s.prune ?? { roles: [], secrets: [] }) : s.access;
  add('role', 'write', roles);
  add('secret', 'write', secrets);
  if (caller === 'cleaner')
    for (const { name, prefix } of stores)
      for (const key of ['locks/*', 'index.json'])
        add('prunedStore', 'write', [`${name === undefined ? ownBucket : `arn:aws:s3:::${name}`}/${prefix}${key}`]);
  add(
    'prunedObject',
    'write',
    places.map(({ name, prefix }) => `${name === undefined ? ownBucket : `arn:aws:s3:::${name}`}/${prefix}*`),
  );
  const writes =
    caller === 'worker' &&
    (s.bucket.existing !== undefined ||
      [...s.access.repositories, ...s.access.buckets].some((o) => o.allow === 'write'));
  const keys: readonly (readonly [string, readonly string[]])[] = [
    ...(s.encryption === 'create' ? [['<StorageKey.Arn>', KEY_ACTIONS.own] as const] : []),
    ...s.access.keys.map((key) => [key, [...KEY_ACTIONS.read, ...(writes ? KEY_ACTIONS.write : [])]] as const),
  ];
  for (const [key, actions] of keys) for (const action of actions) lines.add(`${action} on ${key}`);
  // what Lambda logs for it
  for (const [name, logs] of [
    ['planner', '<PlannerLogs.Arn>'],
    ['cleaner', '<CleanerLogs.Arn>'],
  ] as const)
    if (caller === name)
      for (const action of ['logs:CreateLogStream', 'logs:PutLogEvents']) lines.add(`${action} on ${logs}`);
  return [...lines].toSorted();
}

/** The parts of a place in the settings. Without a name: the bucket of the deployment. */
function placeOf(text: string): { readonly name: string | undefined; readonly prefix: string } {
  const url = text.startsWith('s3://') ? new URL(text) : undefined;
  return { name: url?.host, prefix: (url?.pathname ?? `/${text}`).replace(/^\/+/, '') };
}

const known = new Map<InfraSettings, ReadonlyMap<string, readonly Statement[]>>();

/** The statements of roles in the stacks of these settings, made once. */
function rolesOf(settings: InfraSettings): ReadonlyMap<string, readonly Statement[]> {
  const before = known.get(settings);
  if (before !== undefined) return before;
  const stack = stacksOf(settings).get('Transship');
  if (stack === undefined) throw new Error('no stack');
  const roles = statementsOf(Template.fromStack(stack));
  known.set(settings, roles);
  return roles;
}

function statementsOfRole(caller: Exclude<Caller, 'restoreTest'>, settings: InfraSettings): readonly Statement[] {
  const prefix = { worker: 'WorkersRole', planner: 'PlannerRole', cleaner: 'CleanerRole' }[caller];
  const [some, ...more] = [...rolesOf(settings)].filter(([id]) => id.startsWith(prefix));
  if (some === undefined || more.length > 0) throw new Error(`not one ${prefix}`);
  return some[1];
}

const PRODUCTION = exampleOf('production');
const SETTINGS: readonly (readonly [string, InfraSettings])[] = [
  ['minimal', exampleOf('minimal')],
  ['production', PRODUCTION],
  ['nothing but itself', settingsOf('')],
  ['large workers', settingsOf('largeJobs: {}')],
  [
    'an existing bucket, which has a key of its own',
    settingsOf(`bucket: { existing: archives-of-old }
access:
  repositories: [{ names: [a], allow: read }]
  keys: ['arn:aws:kms:eu-central-1:111111111111:key/0c000000-0000-4000-8000-000000000000']`),
  ],
  ['a part of a bucket', settingsOf("access: { buckets: [{ name: foreign, prefix: 'a/', allow: write }] }")],
  [
    'archived images of some repositories',
    settingsOf(
      'access: { repositories: [{ names: [a], allow: read, restoreArchived: true }, { names: [b], allow: write }] }',
    ),
  ],
  [
    'reading alone',
    settingsOf(`access:
  repositories: [{ names: [a], allow: read }, { names: [b, 'c/*'], account: '222222222222', region: us-east-1, allow: read }]
  buckets: [{ name: foreign, allow: read }]
  keys: ['arn:aws:kms:eu-central-1:222222222222:key/0c000000-0000-4000-8000-000000000000']`),
  ],
];

const PRUNING: readonly (readonly [string, InfraSettings])[] = [
  ['production', PRODUCTION],
  ['repositories alone', settingsOf("prune: { repositories: [{ names: ['ci/*'] }] }")],
  [
    'everything',
    settingsOf(`encryption: create
access:
  repositories: [{ names: [a], allow: write }]
  buckets: [{ name: vaulted, prefix: 'a/', allow: read }]
  keys: ['arn:aws:kms:eu-central-1:111111111111:key/0c000000-0000-4000-8000-000000000000']
publish: { prefixes: ['s3://documents/a/', 's3://vaulted/a/b/', '/'] }
prune:
  repositories: [{ names: [b, 'c/*'], account: '222222222222', region: us-east-1 }, { names: [d] }]
  scratch: [{ prefixes: [scratch, drills/b], account: '222222222222' }]
  prefixes: [/, 's3://foreign/', 's3://vaulted/a/']
  stores: [store/, 's3://foreign/store/']
  roles: ['arn:aws:iam::222222222222:role/cleaner']
  secrets: ['arn:aws:secretsmanager:eu-central-1:111111111111:secret:quay-AbCdEf']`),
  ],
];

describe.each(['worker', 'planner', 'cleaner'] as const)('the role of the %s', (caller) => {
  test.each(caller === 'cleaner' ? PRUNING : [...SETTINGS, ...PRUNING.slice(1)])(
    'allows exactly what the table has: %s',
    (_, settings) => {
      expect(permissions(statementsOfRole(caller, settings))).toEqual(expected(caller, settings));
    },
  );

  test('allows every action of the table for this process, where the settings use all of them', () => {
    const wanted = Object.values(CALLS).flatMap(({ actions, by }) =>
      Object.values(by).some((callers) => callers.includes(caller)) ? actions : [],
    );
    const everything = caller === 'cleaner' ? PRUNING.at(-1)?.[1] : PRODUCTION;
    const given = new Set(statementsOfRole(caller, everything ?? PRODUCTION).flatMap(({ Action }) => Action));
    expect([...new Set(wanted)].filter((action) => !given.has(action))).toEqual([]);
  });

  test('uses keys through services only, each in its Region', () => {
    const keys = statementsOfRole(caller, PRODUCTION).filter(({ Action }) =>
      Action.some((action) => action.startsWith('kms:')),
    );
    expect(keys.length).toBeGreaterThan(0);
    for (const { Condition } of keys) {
      const services = viaService.parse(Condition).StringEquals['kms:ViaService'].map(textOf);
      expect(services).toEqual(
        ['dynamodb', 'ecr', 's3', 'secretsmanager', 'sqs'].map((name) => `${name}.eu-west-1.<AWS::URLSuffix>`),
      );
    }
  });

  test('lists only the prefix that it may use in a bucket, and never the whole bucket', () => {
    const settings = settingsOf(
      "access: { buckets: [{ name: foreign, prefix: 'a/', allow: write }] }\nprune: { repositories: [{ names: [a] }] }",
    );
    const conditions = statementsOfRole(caller, settings)
      .filter(({ Resource }) => textOf(Resource) === 'arn:aws:s3:::foreign')
      .map(({ Action, Condition }) => [Action, Condition]);
    const list = [['s3:ListBucket'], { StringLike: { 's3:prefix': 'a/*' } }];
    // IAM has no condition on the prefix of unfinished uploads
    expect(conditions).toEqual(caller === 'worker' ? [list, [['s3:ListBucketMultipartUploads'], undefined]] : [list]);
  });
});

describe('the role that verifies restore tests', () => {
  test('may read the buckets of restore tests in its own account, record results and log, and nothing else', () => {
    const stack = stacksOf(exampleOf('vault')).get('TransshipVault');
    if (stack === undefined) throw new Error('no stack');
    const found = [...statementsOf(Template.fromStack(stack))].find(([id]) => id.startsWith('RestoreVerifierRole'));
    const granted = found?.[1] ?? [];
    const bucket = 'arn:aws:s3:::awsbackup-restore-test-*';
    expect(permissions(granted)).toEqual(
      [
        'backup:PutRestoreValidationResult on *',
        'logs:CreateLogStream on <RestoreVerifierLogs.Arn>',
        'logs:PutLogEvents on <RestoreVerifierLogs.Arn>',
        `s3:GetObject on ${bucket}/*`,
        `s3:ListBucket on ${bucket}`,
      ].toSorted(),
    );
    for (const { Action, Condition } of granted)
      if (Action.some((action) => action.startsWith('s3:')))
        expect(Condition).toEqual({ StringEquals: { 'aws:ResourceAccount': stack.account } });
  });
});

describe('deleting', () => {
  const DELETES = /^[\w-]+:(?:Batch)?Delete(?!Message\b)|^s3:PutLifecycle|^s3:PutBucket/;

  test.each([...SETTINGS, ...PRUNING])('is allowed to the Cleaner only, in what `prune` names: %s', (_, settings) => {
    const deleting = [...rolesOf(settings)].flatMap(([id, some]) =>
      permissions(some)
        .filter((line) => DELETES.test(line))
        .map((line) => `${id.replace(/(?<=Role).*$/, '')} ${line}`),
    );
    const places = [...(settings.prune?.prefixes ?? []), ...(settings.prune?.stores ?? [])].map(placeOf);
    const objects = places.map(
      ({ name, prefix }) => `${name === undefined ? '<StorageBucket.Arn>' : `arn:aws:s3:::${name}`}/${prefix}*`,
    );
    const images = settings.prune?.repositories.flatMap(
      ({ account = settings.account, region = settings.region, names }) =>
        names.map((name) => `arn:aws:ecr:${region}:${account}:repository/${name}`),
    );
    const scratch = settings.prune?.scratch.flatMap(
      ({ account = settings.account, region = settings.region, prefixes }) =>
        prefixes.map((name) => `arn:aws:ecr:${region}:${account}:repository/${name}/transship-drill-*`),
    );
    expect(deleting.toSorted()).toEqual(
      [
        ...(scratch ?? []).map((arn) => `CleanerRole ecr:DeleteRepository on ${arn}`),
        ...objects.map((arn) => `CleanerRole s3:DeleteObject on ${arn}`),
        ...(images ?? []).map((arn) => `CleanerRole ecr:BatchDeleteImage on ${arn}`),
      ].toSorted(),
    );
  });
});

/** What has no resource in AWS, and why it does no harm: every `*` of every role. */
const SETTINGS_OF_A_REGISTRY = 'settings of a registry as a whole, which are read alone';
const WITHOUT_RESOURCE: Readonly<Record<string, string>> = {
  'ecr:GetAuthorizationToken': 'a token opens nothing that another statement does not',
  'ecr-public:GetAuthorizationToken': 'the same, of ECR Public',
  'sts:GetServiceBearerToken': 'ECR Public asks for it beside its own',
  'ecr:DescribePullThroughCacheRules': SETTINGS_OF_A_REGISTRY,
  'ecr:DescribeRegistry': SETTINGS_OF_A_REGISTRY,
  'ecr:DescribeRepositoryCreationTemplates': SETTINGS_OF_A_REGISTRY,
  'ecr:GetAccountSetting': SETTINGS_OF_A_REGISTRY,
  'ecr:GetRegistryPolicy': SETTINGS_OF_A_REGISTRY,
  'ecr:GetRegistryScanningConfiguration': SETTINGS_OF_A_REGISTRY,
  'ecr:GetSigningConfiguration': SETTINGS_OF_A_REGISTRY,
  'ecr:ListPullTimeUpdateExclusions': SETTINGS_OF_A_REGISTRY,
  'ecr:PutAccountSetting': 'blob mounting is a setting of the account',
  'backup:PutRestoreValidationResult': 'restore jobs have no resource, and only the account of the vault has this role',
};

describe.each(EXAMPLES)('roles of %s', (name) => {
  const roles = [...stacksOf(exampleOf(name))].flatMap(([stack, built]) =>
    [...statementsOf(Template.fromStack(built))].map(([role, some]) => ({ role: `${stack} ${role}`, some })),
  );

  test('allow all resources only where AWS has no others', () => {
    const everywhere = roles.flatMap(({ role, some }) =>
      some
        .filter(({ Effect, Resource }) => Effect === 'Allow' && [Resource].flat().includes('*'))
        .flatMap(({ Action }) => Action.map((action) => ({ role, action }))),
    );
    expect(everywhere.length).toBeGreaterThan(0);
    expect(everywhere.filter(({ action }) => !(action in WITHOUT_RESOURCE))).toEqual([]);
  });

  test('name each action in full', () => {
    const vague = roles.flatMap(({ role, some }) =>
      some
        .filter(({ Effect }) => Effect === 'Allow')
        .flatMap(({ Action }) => Action.filter((action) => action.includes('*')).map((action) => ({ role, action }))),
    );
    expect(vague).toEqual([]);
  });
});
