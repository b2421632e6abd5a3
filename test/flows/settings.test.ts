// The settings of repositories beside their archives: a run of a backup rule must store them as it must store the archives.
import assert from 'node:assert/strict';
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { digestOf } from '../../worker/oci/digest.ts';
import { formatRule } from '../../worker/rules/config.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { status, type Status } from '../../worker/service/admin/status.ts';
import type { Run } from '../../worker/state/state.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { rule } from '../support/rules.ts';
import { planRun, testService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, bucket, s3 } = lab.stack;
const client = clientOf(s3);
afterAll(() => client.destroy());

const POLICY = JSON.stringify({
  rules: [
    {
      rulePriority: 1,
      selection: { tagStatus: 'untagged', countType: 'imageCountMoreThan', countNumber: 5 },
      action: { type: 'expire' },
    },
  ],
});

interface BackedUp {
  readonly key: string;
  /** Plans due runs an hour later, calls `planned`, does the jobs, and returns the run. */
  run(options?: { readonly planned?: () => void }): Promise<Run>;
  status(): Promise<Status>;
  /** The document at `key`. */
  stored(): Promise<unknown>;
  /** Changes the settings of the repository. */
  set(settings: Readonly<Record<string, unknown>>): Promise<void>;
  apply(choices: Partial<CopyRule>): Promise<void>;
}

let seeds = 9500;
/** A repository with two tags, backed up by a rule but not yet. */
async function backedUp(name: string, registry: LocalRegistry = ecr): Promise<BackedUp> {
  const t = testService();
  const session = lab.session();
  for (const tag of ['v1', 'v2'])
    await lab.push(await makeImage({ seed: ++seeds, tag, platforms: ['linux/amd64'], layers: [2000] }), registry, name);
  const from = [`${registry.registryHost}/${name}`];
  const to = [`s3://${bucket}/owed/{repository}/{tag}.tar`];
  const { backends } = session;
  let revision = 0;
  const bench: BackedUp = {
    key: `owed/${name}/repository.json`,
    run: async ({ planned } = {}) => {
      const { id } = await planRun(t, backends, { hours: 1 });
      planned?.();
      await t.worker(backends).drain();
      const run = await t.run(id);
      if (run.endedAtMs === undefined) throw new Error('the run has not ended');
      return run;
    },
    status: async () => status(t, { clock: t.clock }),
    stored: async () => {
      const body = await Array.fromAsync(await backends.bucket(bucket).read(bench.key), (chunk) => Buffer.from(chunk));
      return JSON.parse(Buffer.concat(body).toString());
    },
    set: async (settings) => backends.registry(registry.registryHost, 'target').applySettings(name, settings),
    apply: async (choices) => {
      const { revision: now } = await t.state.rules.put(
        { name: 'bk', document: formatRule(rule({ name: 'bk', from, to, ...choices })) },
        revision,
      );
      revision = now;
    },
  };
  await bench.apply({});
  return bench;
}

/** What the archives of `v1` and `v2` record of the settings beside them: the digests that the archives name, and the document's. */
async function namedBy({ key }: BackedUp): Promise<{ readonly named: readonly unknown[]; readonly is: string }> {
  const store = lab.session().backends.bucket(bucket);
  const archives = ['v1', 'v2'].map((tag) => key.replace('repository.json', `${tag}.tar`));
  const named = await Promise.all(archives.map(async (archive) => (await store.stat(archive)).metadata));
  return {
    named: named.map((metadata) => metadata['transship-settings']),
    is: digestOf(Buffer.concat(await Array.fromAsync(await store.read(key), (chunk) => Buffer.from(chunk)))),
  };
}

/** The requests to the bucket and ECR while `work` runs: operations of S3 with their keys, and of ECR's API. */
async function askedDuring(work: () => Promise<unknown>): Promise<{ readonly s3: string[]; readonly ecr: string[] }> {
  const before = [new Set(s3.requests), new Set(ecr.requests)] as const;
  await work();
  return {
    s3: s3.requests.filter((one) => !before[0].has(one)).map((one) => `${one.operation} ${one.key ?? ''}`),
    ecr: ecr.requests.filter((one) => !before[1].has(one)).flatMap(({ operation }) => operation ?? []),
  };
}

async function remove(key: string): Promise<void> {
  await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
}

test('deleted settings of a repository are written by the next run, once', async () => {
  const t = await backedUp('deleted/app');
  await t.run();
  const before = await t.stored();
  await remove(t.key);
  const asked = await askedDuring(async () => {
    expect(await t.run()).toMatchObject({ unchanged: 2, jobs: { done: 1, failed: 0 } });
  });
  expect(asked.s3.filter((one) => one.startsWith('PutObject'))).toEqual([`PutObject ${t.key}`]);
  expect(await t.stored()).toEqual(before);
});

test('settings that changed while no image did are written by the next run, once', async () => {
  const t = await backedUp('policy/app');
  await t.run();
  await t.set({ lifecyclePolicy: POLICY });
  const asked = await askedDuring(async () => {
    expect(await t.run()).toMatchObject({ unchanged: 2, jobs: { done: 1, failed: 0 } });
  });
  expect(asked.s3.filter((one) => one.startsWith('PutObject'))).toEqual([`PutObject ${t.key}`]);
  expect(await t.stored()).toMatchObject({ settings: { lifecyclePolicy: POLICY } });
});

test('settings that equal the stored ones cost four calls of ECR and one read, and no job', async () => {
  const t = await backedUp('equal/app');
  await t.run();
  const asked = await askedDuring(async () => {
    expect(await t.run()).toMatchObject({ unchanged: 2, jobs: { done: 0, skipped: 0, failed: 0 } });
  });
  expect(asked.ecr.toSorted()).toEqual([
    'DescribeImages',
    'DescribeRepositories',
    'GetLifecyclePolicy',
    'GetRepositoryPolicy',
    'ListTagsForResource',
  ]);
  expect(asked.s3.toSorted()).toEqual([
    `GetObject ${t.key}`,
    'HeadObject owed/equal/app/v1.tar',
    'HeadObject owed/equal/app/v2.tar',
  ]);
});

test.each([
  [503, undefined],
  [403, 'AccessDenied'],
])('settings whose first write is answered with %d are written in the end', async (code, name) => {
  const t = await backedUp(`answered/app-${code}`);
  await t.run();
  await t.set({ lifecyclePolicy: POLICY });
  s3.faults.add(
    { operation: 'PutObject', key: t.key, times: code === 503 ? 100 : 1 },
    { kind: 'answer', status: code, ...(name === undefined ? {} : { code: name }) },
  );
  const run = await t.run();
  expect(run.jobs.failed).toBe(1);
  expect((await t.status()).rules).toMatchObject([{ faults: [expect.stringContaining('its last run had failures')] }]);
  s3.faults.clear();
  expect(await t.run()).toMatchObject({ jobs: { done: 1, failed: 0 } });
  expect(await t.stored()).toMatchObject({ settings: { lifecyclePolicy: POLICY } });
  expect((await t.status()).rules).toMatchObject([{ faults: [] }]);
});

test.each([
  ['unavailable', { status: 503 }, 100],
  ['expired', { status: 400, code: 'ExpiredToken' }, 4],
])(
  'stored settings that cannot be read while a run is planned (%s) become a job that is retried',
  async (name, answer, times) => {
    const t = await backedUp(`unread/${name}`);
    await t.run();
    await t.set({ lifecyclePolicy: POLICY });
    s3.faults.add({ operation: 'GetObject', key: t.key, times }, { kind: 'answer', ...answer });
    const run = await t.run({ planned: () => s3.faults.clear() });
    expect(run).toMatchObject({ unchanged: 2, jobs: { done: 1, failed: 0 } });
    expect(await t.stored()).toMatchObject({ settings: { lifecyclePolicy: POLICY } });
    expect((await t.status()).rules).toMatchObject([{ faults: [] }]);
  },
);

test('settings that their registry does not return while a run is planned become a job, which finds them equal', async () => {
  const t = await backedUp('silent/app');
  await t.run();
  ecr.faults.add({ operation: 'GetLifecyclePolicy', times: 100 }, { kind: 'answer', status: 503 });
  const run = await t.run({ planned: () => ecr.faults.clear() });
  expect(run).toMatchObject({ unchanged: 2, jobs: { skipped: 1, failed: 0 } });
});

test('a first run during which its registry does not return settings leaves them to the jobs of its archives', async () => {
  const t = await backedUp('silent/first');
  ecr.faults.add({ operation: 'GetLifecyclePolicy', times: 100 }, { kind: 'answer', status: 503 });
  expect(await t.run({ planned: () => ecr.faults.clear() })).toMatchObject({ jobs: { done: 2, failed: 0 } });
  expect(await t.stored()).toMatchObject({ repository: 'silent/first' });
});

test('the snapshot of a run waits for stored settings that expired credentials cannot read', async () => {
  const t = await backedUp('expired/app');
  const to = [`s3://${bucket}/expired/{repository}/{tag}.tar`];
  await t.apply({ to, snapshots: undefined });
  const key = 'expired/expired/app/repository.json';
  expect(await t.run()).toMatchObject({ jobs: { done: 3, failed: 0 } });
  const again = await t.run({
    planned: () =>
      s3.faults.add({ operation: 'GetObject', key, times: 2 }, { kind: 'answer', status: 400, code: 'ExpiredToken' }),
  });
  expect(again).toMatchObject({ unchanged: 2, jobs: { done: 1, failed: 0 } });
  const snapshots = openSnapshots({ store: lab.session().backends.bucket(bucket), prefix: 'expired/' });
  const [newest] = (await snapshots.list()).toReversed();
  assert.ok(newest !== undefined);
  const { snapshot } = await snapshots.read(newest);
  expect(snapshot).toMatchObject({ failures: [], repositories: [{ complete: true, settings: expect.any(Object) }] });
});

test('a run that may not read settings does not count as good, unless its rule turns them off', async () => {
  const strict = await lab.registry({
    mode: 'ecr',
    account: '333333333333',
    region: 'eu-north-1',
    deny: ['ecr:GetLifecyclePolicy'],
  });
  const t = await backedUp('secretive/app', strict);
  expect(await t.run()).toMatchObject({ jobs: { done: 2, failed: 1 } });
  const { rules, failed } = await t.status();
  expect(rules).toMatchObject([{ faults: [expect.stringContaining('its last run had failures')] }]);
  expect(failed).toMatchObject([
    {
      title: `settings of docker://${strict.registryHost}/secretive/app`,
      code: 'DENIED',
      reason: expect.stringContaining('ecr:GetLifecyclePolicy'),
    },
  ]);
  expect(failed[0]?.reason).toContain('`settings: false`');
  await t.apply({ settings: false });
  expect(await t.run()).toMatchObject({ unchanged: 2, jobs: { failed: 0 } });
  expect((await t.status()).rules).toMatchObject([{ faults: [] }]);
});

test('settings of another repository in the same place are kept, and the run does not count as good', async () => {
  const t = await backedUp('shared/app');
  await t.run();
  const other = `${JSON.stringify({ format: 1, repository: 'shared/other', settings: {} })}\n`;
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: t.key, Body: other }));
  expect(await t.run()).toMatchObject({ unchanged: 2, jobs: { failed: 1 } });
  expect(await t.stored()).toMatchObject({ repository: 'shared/other' });
  expect((await t.status()).failed).toMatchObject([{ reason: expect.stringContaining('"shared/other"') }]);
});

test('settings of the same repository of another registry in the same place are kept; those that name no registry are replaced', async () => {
  const t = await backedUp('twins/app');
  await t.run();
  const mine = await t.stored();
  const named = { registry: ecr.registryHost, repository: 'twins/app' };
  expect(mine).toMatchObject(named);
  const put = async (document: object): Promise<unknown> =>
    client.send(new PutObjectCommand({ Bucket: bucket, Key: t.key, Body: JSON.stringify(document) }));
  const registry = '999999999999.dkr.ecr.eu-west-3.amazonaws.com';
  await put({ format: 1, ...named, registry, settings: {} });
  expect(await t.run()).toMatchObject({ unchanged: 2, jobs: { failed: 1 } });
  expect(await t.stored()).toMatchObject({ registry });
  const reason = expect.stringContaining(`"${registry}/twins/app": put {registry} before a slash`);
  expect((await t.status()).failed).toMatchObject([{ reason }]);
  await put({ format: 1, repository: named.repository, settings: {} });
  expect(await t.run()).toMatchObject({ unchanged: 2, jobs: { failed: 0 } });
  expect(await t.stored()).toEqual(mine);
});

test('archives of workers name the settings beside them, including the first archives, and read them once for each archive', async () => {
  const t = await backedUp('named/app');
  const asked = await askedDuring(async () => t.run());
  const first = await namedBy(t);
  expect(first.named).toEqual([first.is, first.is]);
  expect(asked.s3.filter((one) => one === `PutObject ${t.key}`)).toHaveLength(1);
  await lab.push(await makeImage({ seed: ++seeds, tag: 'v2', layers: [2000] }), ecr, 'named/app');
  await t.set({ lifecyclePolicy: POLICY });
  await t.run();
  const second = await namedBy(t);
  expect(second.is).not.toBe(first.is);
  // for the new archive it depends on which of the two jobs ran first
  expect([first.is, second.is]).toContain(second.named[1]);
  expect(second.named[0]).toBe(first.is);
  await lab.push(await makeImage({ seed: ++seeds, tag: 'v1', layers: [2000] }), ecr, 'named/app');
  const again = await askedDuring(async () => t.run());
  expect((await namedBy(t)).named[0]).toBe(second.is);
  // by the planner, and by the job; that job does not ask ECR for settings
  expect(again.s3.filter((one) => one === `GetObject ${t.key}`)).toHaveLength(2);
  expect(again.ecr.filter((one) => one === 'GetLifecyclePolicy')).toHaveLength(1);
});

test('a rule without settings leaves none beside its archives', async () => {
  const t = await backedUp('unwanted/app');
  await t.apply({ settings: false });
  expect(await t.run()).toMatchObject({ jobs: { done: 2, failed: 0 } });
  await expect(t.stored()).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('archives of a registry that does not return its settings name none', async () => {
  const strict = await lab.registry({
    mode: 'ecr',
    account: '333333333333',
    region: 'eu-north-1',
    deny: ['ecr:GetLifecyclePolicy'],
  });
  const t = await backedUp('unnamed/app', strict);
  await t.apply({ settings: false });
  expect(await t.run()).toMatchObject({ jobs: { done: 2, failed: 0 } });
  const store = lab.session().backends.bucket(bucket);
  const { metadata } = await store.stat(t.key.replace('repository.json', 'v1.tar'));
  expect(metadata).not.toHaveProperty('transship-settings');
});

test('settings of two repositories in one place already fail the first run', async () => {
  const t = await backedUp('flat/a');
  await lab.push(await makeImage({ seed: ++seeds, tag: 'v1', layers: [2000] }), ecr, 'flat/b');
  const from = ['a', 'b'].map((name) => `${ecr.registryHost}/flat/${name}`);
  await t.apply({ from, to: [`s3://${bucket}/owed/{repository}-{tag}.tar`] });
  for (const jobs of [{ done: 3, failed: 1 }, { failed: 1 }]) {
    expect(await t.run()).toMatchObject({ jobs });
    const { failed } = await t.status();
    expect(failed[0]).toMatchObject({ title: `settings of docker://${ecr.registryHost}/flat/b`, code: 'CONFLICT' });
    expect(failed[0]?.reason).toContain('put {repository} before a slash');
  }
});

test('a run whose first archive cannot store its settings does not count as good', async () => {
  const t = await backedUp('first/app');
  s3.faults.add(
    { operation: 'PutObject', key: t.key, times: 100 },
    { kind: 'answer', status: 403, code: 'AccessDenied' },
  );
  expect(await t.run()).toMatchObject({ jobs: { done: 2, failed: 1 } });
  expect((await t.status()).rules).toMatchObject([{ faults: [expect.stringContaining('its last run had failures')] }]);
  expect((await t.status()).deadLetters).toBe(0);
  s3.faults.clear();
  expect(await t.run()).toMatchObject({ jobs: { done: 1, failed: 0 } });
  expect((await t.status()).rules).toMatchObject([{ faults: [] }]);
});
