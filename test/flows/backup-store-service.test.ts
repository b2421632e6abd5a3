// Rules that back up into a store, through planner, queue, workers and state, over the embedded S3 and ECR.
import assert from 'node:assert/strict';
import { afterAll, describe, expect, test } from 'vitest';
import { formatRule } from '../../worker/rules/config.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import type { Snapshot } from '../../worker/store/snapshot.ts';
import { status } from '../../worker/service/admin/status.ts';
import { enqueueRule } from '../../worker/service/admin/enqueue.ts';
import { gatherPush } from '../../worker/service/planner/push-event.ts';
import type { Run } from '../../worker/state/state.ts';
import type { Backends } from '../../worker/images/backends.ts';
import { Failure, ifFound } from '../../worker/util/failure.ts';
import { collect } from '../support/chunks.ts';
import { eventually } from '../support/eventually.ts';
import type { PushEvent } from '../../worker/queue/events.ts';
import { beforeWrites } from '../support/faulty-objects.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab, requestsDuring, type Session } from '../support/lab.ts';
import { hourlyRule } from '../support/rules.ts';
import { deadLettersOf, expectEnded, planRun, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr } = lab.stack;

/** A rule with its own store or archives, and the service that runs it. */
interface Kept {
  readonly t: TestService;
  readonly rule: CopyRule;
  readonly prefix: string;
  readonly session: Session;
  readonly worker: ReturnType<TestService['worker']>;
  /** A pass of the planner, so many hours later; returns the run that it began. */
  pass(hours?: number): Promise<Run>;
  /** All snapshots, oldest first. */
  snapshots(): Promise<readonly Snapshot[]>;
  /** The keys of the blobs of its store. */
  blobs(): Promise<readonly string[]>;
  /** The page about its backups, if there is one. */
  page(): Promise<{ readonly text: string; readonly contentType: string | undefined } | undefined>;
}

let rules = 0;

async function kept(words: (name: string) => string): Promise<Kept> {
  const name = `kept-${++rules}`;
  const rule = hourlyRule(name, `backup: ${words(name)}`);
  assert(rule.kind === 'backup');
  const t = testService();
  await t.state.rules.put({ name, document: formatRule(rule) }, 0);
  const session = lab.session();
  const prefix = `${name}/`;
  return {
    t,
    rule,
    prefix,
    session,
    worker: t.worker(session.backends),
    pass: async (hours = 0) => planRun(t, session.backends, { hours }),
    snapshots: async () => {
      const place = openSnapshots({ store: session.backends.bucket(bucket), prefix });
      const names = await place.list();
      return Promise.all(names.map(async (one) => (await place.read(one)).snapshot));
    },
    blobs: async () =>
      (await Array.fromAsync(session.backends.bucket(bucket).list(`${prefix}blobs/`))).map(({ key }) => key),
    page: async () => {
      const store = session.backends.bucket(bucket);
      const key = `${prefix}report.html`;
      const info = await ifFound(store.stat(key));
      if (info === undefined) return undefined;
      return { text: (await collect(await store.read(key))).toString(), contentType: info.contentType };
    },
  };
}

const intoStore = (name: string): string =>
  `{ from: '${ecr.registryHost}/${name}/*', to: 'store:s3://${bucket}/${name}/' }`;
const tagsOf = (snapshot: Snapshot | undefined): readonly string[] =>
  (snapshot?.repositories ?? []).flatMap(({ name, images }) =>
    images.flatMap(({ tags }) => tags.map((tag) => `${name}:${tag}`)),
  );

/** An image of one platform: a config, a layer of its own, and one that all images share. */
async function push(k: Kept, repository: string, tag: string, seed: number): Promise<MadeImage> {
  const image = await makeImage({ seed, tag, platforms: ['linux/amd64'], layers: [300] });
  await lab.push(image, ecr, `${k.rule.name}/${repository}`);
  return image;
}

/** The backends of a session. `before` is called with each key before it is written. */
function writesSeen({ backends }: Session, before: (key: string) => void | Promise<void>): Backends {
  return { ...backends, bucket: (name) => beforeWrites(backends.bucket(name), before) };
}

/** The event of a push. */
function pushOf(k: Kept, repository: string, tag: string, { root }: MadeImage): PushEvent {
  const [account = '', , , region = ''] = ecr.registryHost.split('.');
  const { digest } = root.descriptor;
  const at = new Date(k.t.clock.now()).toISOString();
  return { id: `push-${tag}`, account, region, repository: `${k.rule.name}/${repository}`, tag, digest, at };
}

describe('a rule with a store', () => {
  test('makes one job a run, whose snapshot lists every image, and sends nothing where nothing changed', async () => {
    const k = await kept(intoStore);
    await push(k, 'app', '1', 1);
    await push(k, 'app', '2', 2);
    await push(k, 'web', '1', 3);
    expect(await requestsDuring(ecr, async () => k.pass())).toEqual({});
    const [run] = await k.t.state.runs.list({ rule: k.rule.name });
    expect(run?.jobs).toMatchObject({ waiting: 1 });
    await k.worker.drain();
    await expectEnded(k.t, run?.id ?? '', { done: 1 });
    const [snapshot] = await k.snapshots();
    expect(snapshot).toMatchObject({ kind: 'store', rule: k.rule.name, run: run?.id, failures: [] });
    expect(tagsOf(snapshot)).toEqual([`${k.rule.name}/app:1`, `${k.rule.name}/app:2`, `${k.rule.name}/web:1`]);
    expect(snapshot?.repositories.every(({ complete }) => complete)).toBe(true);
    expect(k.t.events).toContainEqual(
      expect.objectContaining({
        type: 'snapshot-written',
        images: { stored: 3, unchanged: 0, archived: 0, failed: 0 },
      }),
    );
    expect(await status({ ...k.t }, { clock: k.t.clock })).toMatchObject({
      faulty: false,
      rules: [{ name: k.rule.name, faults: [] }],
    });

    const again = await k.pass(1);
    const requests = await requestsDuring(ecr, async () => k.worker.drain());
    await expectEnded(k.t, again.id, { skipped: 1 });
    expect(requests['BatchGetImage'] ?? 0).toBe(0);
    const snapshots = await k.snapshots();
    expect(snapshots).toHaveLength(2);
    expect(tagsOf(snapshots[1])).toEqual(tagsOf(snapshot));
    expect(snapshots[1]?.added).toEqual({ blobs: 0, bytes: 0 });
  });

  test('backs up the tags that the rule selects, also for a repository that is named beside a pattern', async () => {
    const k = await kept(
      (name) =>
        `{ from: ['${ecr.registryHost}/${name}/a*', '${ecr.registryHost}/${name}/web'], tags: { semver: '>=2', latest: 1 }, to: 'store:s3://${bucket}/${name}/' }`,
    );
    for (const [seed, tag] of ['1.0.0', '2.0.0', '2.1.0'].entries()) await push(k, 'app', tag, 10 + seed);
    await push(k, 'web', '3.0.0', 20);
    await push(k, 'other', '3.0.0', 21);
    const run = await k.pass();
    expect(run.jobs).toMatchObject({ waiting: 1 });
    await k.worker.drain();
    await expectEnded(k.t, run.id, { done: 1 });
    const [snapshot] = await k.snapshots();
    expect(tagsOf(snapshot)).toEqual([`${k.rule.name}/app:2.1.0`, `${k.rule.name}/web:3.0.0`]);
    expect(snapshot?.repositories.map(({ complete }) => complete)).toEqual([false, false]);
  });

  test('stores a pushed image at once, with a snapshot of that image alone', async () => {
    const k = await kept(intoStore);
    await k.t.state.rules.put({ name: k.rule.name, document: formatRule({ ...k.rule, onPush: true }) }, 1);
    await push(k, 'app', '1', 30);
    const image = await push(k, 'app', '2', 31);
    await gatherPush(pushOf(k, 'app', '2', image), k.t, { clock: k.t.clock });
    await k.worker.drain();
    const [snapshot, ...others] = await k.snapshots();
    expect(others).toEqual([]);
    expect(tagsOf(snapshot)).toEqual([`${k.rule.name}/app:2`]);
    expect(snapshot?.repositories[0]).toMatchObject({ complete: false });
  });

  test('writes the page about all backups after each run if the rule asks for it, but not for a push', async () => {
    const k = await kept(
      (name) => `{ from: '${ecr.registryHost}/${name}/*', to: 'store:s3://${bucket}/${name}/', report: true }`,
    );
    await k.t.state.rules.put({ name: k.rule.name, document: formatRule({ ...k.rule, onPush: true }) }, 1);
    const image = await push(k, 'app', '1', 35);
    await gatherPush(pushOf(k, 'app', '1', image), k.t, { clock: k.t.clock });
    await k.worker.drain();
    expect(await k.snapshots()).toHaveLength(1);
    expect(await k.page()).toBeUndefined();
    await push(k, 'web', '1', 36);
    await k.pass();
    await k.worker.drain();
    const page = await k.page();
    expect(page?.contentType).toBe('text/html; charset=utf-8');
    for (const repository of ['app', 'web']) expect(page?.text).toContain(`${k.rule.name}/${repository}`);
  });

  test('warns when its page cannot be written, and the backup still counts as good', async () => {
    const k = await kept(
      (name) => `{ from: '${ecr.registryHost}/${name}/*', to: 'store:s3://${bucket}/${name}/', report: true }`,
    );
    await push(k, 'app', '1', 37);
    const run = await k.pass();
    const refusing = writesSeen(k.session, (key) => {
      if (key.endsWith('report.html')) throw new Failure('DENIED', 'write: no');
    });
    await k.t.worker(refusing).drain();
    await expectEnded(k.t, run.id, { done: 1 });
    const warned = k.t.events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));
    expect(warned).toContain(`s3://${bucket}/${k.prefix}report.html was not written: write: no`);
    expect(await k.snapshots()).toHaveLength(1);
  });

  test('ends with a snapshot of its own when a person requests the run', async () => {
    const k = await kept(intoStore);
    await push(k, 'app', '1', 40);
    const { id } = await enqueueRule(k.rule.name, k.t, { clock: k.t.clock });
    await k.worker.drain();
    await expectEnded(k.t, id, { done: 2 });
    expect((await k.snapshots()).map(({ run }) => run)).toEqual([id]);
  });

  test('hands its job back when the worker stops in the middle, and continues with what is there', async () => {
    const k = await kept(intoStore);
    for (let seed = 60; seed < 64; seed++) await push(k, 'app', `v${seed}`, seed);
    const run = await k.pass();
    const stop = new AbortController();
    let begun = 0;
    const stopping = writesSeen(k.session, async (key) => {
      if (!key.includes('/blobs/') || ++begun !== 4) return;
      await eventually(async () => expect(await k.blobs()).not.toEqual([]));
      stop.abort();
    });
    const stopped = await k.t.worker(stopping).next({ signal: stop.signal });
    expect(stopped?.outcome).toEqual({ type: 'again', seconds: 0 });
    const there = await k.blobs();
    expect(there.length).toBeGreaterThan(0);
    expect(await k.snapshots()).toEqual([]);
    const sent: string[] = [];
    await k.t.worker(writesSeen(k.session, (key) => void sent.push(key))).drain();
    await expectEnded(k.t, run.id, { done: 1 });
    const [snapshot, ...others] = await k.snapshots();
    expect(others).toEqual([]);
    expect(tagsOf(snapshot)).toEqual(['v60', 'v61', 'v62', 'v63'].map((tag) => `${k.rule.name}/app:${tag}`));
    expect(sent.filter((key) => there.includes(key))).toEqual([]);
    expect((await k.blobs()).toSorted()).toEqual(
      [...there, ...sent.filter((key) => key.includes('/blobs/'))].toSorted(),
    );
  });
});

describe('a rule with archives', () => {
  const intoArchives = (name: string): string =>
    `{ from: '${ecr.registryHost}/${name}/*', to: 's3://${bucket}/${name}/{repository}/{tag}.tar' }`;

  test('ends each run with a snapshot of its archives, including unchanged ones', async () => {
    const k = await kept(intoArchives);
    await push(k, 'app', '1', 70);
    await push(k, 'web', '1', 71);
    const run = await k.pass();
    await k.worker.drain();
    await expectEnded(k.t, run.id, { done: 3 });
    const [first] = await k.snapshots();
    expect(first).toMatchObject({
      kind: 'archives',
      rule: k.rule.name,
      run: run.id,
      failures: [],
      added: { blobs: 2 },
    });
    expect(tagsOf(first)).toEqual([`${k.rule.name}/app:1`, `${k.rule.name}/web:1`]);
    const [app] = first?.repositories ?? [];
    const key = `${k.rule.name}/${k.rule.name}/app/1.tar`;
    expect(app?.images[0]?.archives).toMatchObject([{ tag: '1', key, etag: expect.any(String) }]);
    expect(app?.images[0]?.content.length).toBeGreaterThan(2);
    // as a restore applies them: without the repository, which the document beside the archives names
    const settings = await k.session.backends.registry(ecr.registryHost, 'source').settings(`${k.rule.name}/app`);
    expect(app?.settings).toEqual(settings);

    await push(k, 'app', '2', 72);
    const before = lab.stack.s3.requests.length;
    const second = await k.pass(1);
    await k.worker.drain();
    await expectEnded(k.t, second.id, { done: 2 });
    const snapshots = await k.snapshots();
    expect(tagsOf(snapshots[1])).toEqual([`${k.rule.name}/app:1`, `${k.rule.name}/app:2`, `${k.rule.name}/web:1`]);
    expect(snapshots[1]?.added.blobs).toBe(1);
    // what earlier archives hold is known from the previous snapshot
    const heads = lab.stack.s3.requests.slice(before).filter((one) => one.operation === 'GetObject');
    expect(heads.map(({ key: read }) => read).filter((read) => read.endsWith('/1.tar'))).toEqual([]);
  });

  test('writes the snapshot of a run with nothing to copy, but none where the rule turns snapshots off', async () => {
    const k = await kept(intoArchives);
    await push(k, 'app', '1', 80);
    await k.pass();
    await k.worker.drain();
    const run = await k.pass(1);
    await k.worker.drain();
    await expectEnded(k.t, run.id, { done: 1 });
    expect(await k.snapshots()).toHaveLength(2);

    const [stored] = await k.t.state.rules.list();
    const document = formatRule({ ...k.rule, snapshots: false });
    await k.t.state.rules.put({ name: k.rule.name, document }, stored?.revision ?? 0);
    const third = await k.pass(1);
    await k.worker.drain();
    await expectEnded(k.t, third.id, {});
    expect(await k.snapshots()).toHaveLength(2);
  });

  test('writes the page beside its snapshots after each run if the rule asks for it', async () => {
    const k = await kept(
      (name) =>
        `{ from: '${ecr.registryHost}/${name}/*', to: 's3://${bucket}/${name}/{repository}/{tag}.tar', report: true }`,
    );
    await push(k, 'app', '1', 85);
    await k.pass();
    await k.worker.drain();
    expect((await k.page())?.text).toContain(`${k.rule.name}/app`);
  });

  test('delays the snapshot until retried jobs have ended, and names what failed', async () => {
    const k = await kept(intoArchives);
    await push(k, 'app', '1', 90);
    await push(k, 'app', '2', 91);
    const run = await k.pass();
    const key = `${k.rule.name}/${k.rule.name}/app/2.tar`;
    // the key holds something that is not an archive, so the copy is refused
    await k.session.backends.bucket(bucket).write(key, Buffer.from('no archive'));
    await k.worker.drain();
    await expectEnded(k.t, run.id, { done: 2, failed: 1 });
    const [snapshot] = await k.snapshots();
    expect(tagsOf(snapshot)).toEqual([`${k.rule.name}/app:1`]);
    expect(snapshot?.failures).toMatchObject([
      { repository: `${k.rule.name}/app`, tag: '2', reason: expect.any(String) },
    ]);
    expect(await deadLettersOf(k.t)).toHaveLength(1);
  });

  test('keeps a snapshot message that arrives too early until every other job has ended', async () => {
    const k = await kept(intoArchives);
    await push(k, 'app', '1', 100);
    const run = await k.pass();
    for await (const { id, body = '' } of k.t.state.runs.jobs(run.id)) {
      if (!id.startsWith('snapshot-')) continue;
      await k.t.queue.send([{ body }]);
    }
    await k.worker.drain();
    await expectEnded(k.t, run.id, { done: 2 });
    expect(await k.snapshots()).toHaveLength(1);
  });
});
