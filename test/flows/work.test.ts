import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { destinationKey } from '../../worker/rules/destinations.ts';
import type { Delivery } from '../../worker/queue/queue.ts';
import { work } from '../../worker/service/worker/work.ts';
import { gated } from '../support/backends.ts';
import { collect } from '../support/chunks.ts';
import { formatRule } from '../../worker/rules/config.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab, requestsDuring } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import {
  deadLettersOf,
  expectEnded,
  expectFree,
  mirrorJob,
  testService,
  type TestService,
} from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket } = lab.stack;

let images = 0;
const at = (where: LocalRegistry, name: string, tag = 'v1'): string => `docker://${where.registryHost}/${name}:${tag}`;

/** A new image in a repository of its own. */
async function pushed(name: string, where = registry): Promise<{ readonly image: MadeImage; readonly from: string }> {
  const image = await makeImage({ seed: 1000 + ++images, signed: true });
  await lab.push(image, where, name);
  return { image, from: at(where, name) };
}

const eventTypesOf = (t: TestService): readonly string[] => [...new Set(t.events.map((event) => event.type))];

describe('a job', () => {
  test('to mirror makes every destination equal, records it, and ends its run', async () => {
    const t = testService();
    const { image, from } = await pushed('work/mirror');
    const to = [at(ecr, 'work/mirror'), at(otherEcr, 'work/mirror')];
    const run = await t.enqueue(mirrorJob(from, ...to));
    await t.clock.advance(5000);
    const { outcome } = (await t.worker(lab.session().backends).next()) ?? {};
    expect(outcome).toEqual({ type: 'done' });
    await expectEnded(t, run, { done: 1 });
    await expectFree(t, ...to);
    const { digest } = image.root.descriptor;
    for (const [i, where] of [ecr, otherEcr].entries()) {
      await expectSameImage(image.content, lab.view(where, 'work/mirror'), image.root);
      const record = await t.state.destinations.get(destinationKey(to[i] ?? ''));
      expect(record).toMatchObject({ source: from, sourceDigest: digest, digest, choices: 'all', run });
      expect(record?.bytes).toBeGreaterThan(150_000);
      expect(record?.manifests).toContain(digest.slice(7, 23));
    }
    const own = t.events.filter((event) => event.type.startsWith('job-'));
    expect(own).toMatchObject([
      {
        type: 'job-started',
        attempt: 1,
        waitedMs: 5000,
        job: { run, kind: 'mirror', title: `${from} → ${to.join(', ')}` },
      },
      { type: 'job-done', unchanged: false },
    ]);
    expect(eventTypesOf(t)).toContain('blob-progress');
    const [ended, ...others] = t.events.filter((event) => event.of?.run !== run);
    expect(ended).toMatchObject({ type: 'run-ended', run, rule: 'rule', failed: 0 });
    expect(others).toEqual([]);
  });

  test('with one repository of ECR under two hosts writes it once, instead of waiting for its own lease', async () => {
    const t = testService();
    const { from } = await pushed('work/aliases');
    const to = at(ecr, 'work/aliases');
    const run = await t.enqueue(mirrorJob(from, to.replace('.dkr.ecr.', '.dkr.ecr-fips.'), to));
    const { outcome } = (await t.worker(lab.session().backends).next()) ?? {};
    expect(outcome).toEqual({ type: 'done' });
    await expectEnded(t, run, { done: 1 });
    await expectFree(t, to);
  });

  test('is skipped when its destinations are equal already', async () => {
    const t = testService();
    const { from } = await pushed('work/unchanged');
    const to = [at(ecr, 'work/unchanged'), at(otherEcr, 'work/unchanged')];
    const worker = t.worker(lab.session().backends);
    await t.enqueue(mirrorJob(from, ...to));
    await worker.drain();
    const again = await t.enqueue(mirrorJob(from, ...to));
    await worker.drain();
    await expectEnded(t, again, { skipped: 1 });
    expect(t.events.at(-1)).toMatchObject({ type: 'job-done', unchanged: true });
  });

  test('to back up records the version of the archive; to restore records what it restored', async () => {
    const t = testService();
    const { image, from } = await pushed('work/backup', ecr);
    const archive = `s3://${bucket}/work/backup.tar`;
    const worker = t.worker(lab.session().backends);
    await t.enqueue({ kind: 'backup', from, to: [archive] });
    await worker.drain();
    const { version } = await lab.session().backends.bucket(bucket).stat('work/backup.tar');
    expect(version).toMatch(/./);
    expect(await t.state.destinations.get(destinationKey(archive))).toMatchObject({ version });
    // its settings are beside it, once for all archives of the repository
    await lab.push(await makeImage({ seed: 999, tag: 'v2' }), ecr, 'work/backup');
    await t.enqueue({ kind: 'backup', from: at(ecr, 'work/backup', 'v2'), to: [`s3://${bucket}/work/backup-2.tar`] });
    const calls = await requestsDuring(ecr, async () => worker.drain());
    expect(calls).not.toHaveProperty('api');
    const settings = await collect(await lab.session().backends.bucket(bucket).read('work/repository.json'));
    expect(JSON.parse(settings.toString())).toMatchObject({ format: 1, settings: { tagMutability: 'MUTABLE' } });
    // the tag is that of the archive
    const run = await t.enqueue({
      kind: 'restore',
      from: archive,
      to: `docker://${otherEcr.registryHost}/work/restored`,
    });
    await worker.drain();
    await expectEnded(t, run, { done: 1 });
    await expectSameImage(image.content, lab.view(otherEcr, 'work/restored'), image.root);
    const restored = await t.state.destinations.get(destinationKey(at(otherEcr, 'work/restored')));
    expect(restored).toMatchObject({ source: archive, digest: image.root.descriptor.digest });
  });

  test('creates repositories with its settings, or not at all', async () => {
    const t = testService();
    const { from } = await pushed('work/created');
    const worker = t.worker(lab.session().backends);
    await t.enqueue({ ...mirrorJob(from, at(ecr, 'work/immutable')), create: { tagMutability: 'IMMUTABLE' } });
    const run = await t.enqueue({ ...mirrorJob(from, at(ecr, 'work/not-created')), create: false });
    await worker.drain();
    const settings = await lab.session().backends.registry(ecr.registryHost, 'target').settings('work/immutable');
    expect(settings).toMatchObject({ tagMutability: 'IMMUTABLE' });
    await expectEnded(t, run, { failed: 1 });
  });

  test('to back up onto the archive of another repository is a dead letter at once, and the archive stays', async () => {
    const t = testService();
    const [kept, other] = [await pushed('work/kept'), await pushed('work/other')];
    const archive = `s3://${bucket}/work/one-place.tar`;
    const { backends } = lab.session();
    const worker = t.worker(backends);
    await t.enqueue({ kind: 'backup', from: kept.from, to: [archive] });
    await worker.drain();
    const before = await backends.bucket(bucket).stat('work/one-place.tar');
    const run = await t.enqueue({ kind: 'backup', from: other.from, to: [archive] });
    await worker.drain();
    await expectEnded(t, run, { failed: 1 });
    const [deadLetter] = await deadLettersOf(t);
    expect(deadLetter?.reason).toMatch(
      /^CONFLICT: target: s3:.* holds the archive of .*\/work\/kept:v1, which is not replaced by .*\/work\/other:v1: .*--force/,
    );
    expect((await backends.bucket(bucket).stat('work/one-place.tar')).etag).toBe(before.etag);
  });

  test('of a rule whose source moved to another host names the command that replaces the archive', async () => {
    const t = testService();
    const [before, now] = [await pushed('work/moves', ecr), await pushed('work/moves', registry)];
    const archive = `s3://${bucket}/work/moves.tar`;
    const worker = t.worker(lab.session().backends);
    await t.enqueue({ kind: 'backup', rule: 'nightly', from: before.from, to: [archive] });
    await worker.drain();
    const run = await t.enqueue({ kind: 'backup', rule: 'nightly', from: now.from, to: [archive] });
    await worker.drain();
    await expectEnded(t, run, { failed: 1 });
    const [deadLetter] = await deadLettersOf(t);
    expect(deadLetter?.reason).toContain(`run \`transship enqueue --force ${now.from} ${archive}\` once`);
    await t.enqueue({ kind: 'backup', from: now.from, to: [archive], force: true });
    await worker.drain();
    const again = await t.enqueue({ kind: 'backup', rule: 'nightly', from: now.from, to: [archive] });
    await worker.drain();
    await expectEnded(t, again, { skipped: 1 });
  });

  test('to verify reads every byte; its findings are a dead letter', async () => {
    const t = testService();
    const { image, from } = await pushed('work/verify', ecr);
    const archive = `s3://${bucket}/work/verify.tar`;
    const { backends } = lab.session();
    const worker = t.worker(backends);
    await t.enqueue({ kind: 'backup', from, to: [archive] });
    const good = await t.enqueue({ kind: 'verify', from: archive, against: from });
    await worker.drain();
    await expectEnded(t, good, { done: 1 });
    const store = backends.bucket(bucket);
    const chunks = await Array.fromAsync(await store.read('work/verify.tar'));
    const bytes = Buffer.concat(chunks);
    bytes[bytes.byteLength - 20_000] = (bytes[bytes.byteLength - 20_000] ?? 0) ^ 1;
    await store.write('work/verify.tar', bytes, { metadata: (await store.stat('work/verify.tar')).metadata });
    const bad = await t.enqueue({ kind: 'verify', from: archive });
    await worker.drain();
    await expectEnded(t, bad, { failed: 1 });
    const [deadLetter] = await deadLettersOf(t);
    expect(deadLetter?.reason).toMatch(/^CORRUPT: verify s3:.*sha256:/);
    await expectSameImage(image.content, lab.view(ecr, 'work/verify'), image.root);
  });
});

describe('a message', () => {
  test.each([
    ['is not JSON', 'restart the machine', /^INVALID: message is no JSON: it begins with "restart the machine"/],
    [
      'is of a future version',
      '{"version":2,"kind":"mirror"}',
      /^INVALID: message of version 2: .* deploy a newer one/,
    ],
    [
      'is over the size',
      `{"version":1,"pad":"${'x'.repeat(1024 * 1024)}"}`,
      /^the beginning of a message: INVALID: message of 1048598 bytes/,
    ],
    ['is of an unknown kind', '{"version":1,"kind":"dance"}', /^INVALID: message of kind "dance"/],
  ])('is a dead letter at once, with the reason, when it %s', async (_, body, reason) => {
    const t = testService();
    // sent by another program, which did not check
    const d = delivery(body);
    expect(await work(d, t.worker(lab.session().backends).context, FOREVER)).toEqual({ type: 'done' });
    const [deadLetter, ...others] = await deadLettersOf(t);
    expect(deadLetter?.reason).toMatch(reason);
    expect(others).toEqual([]);
    expect(t.events).toMatchObject([{ type: 'message-refused', of: undefined }]);
  });

  test('of a newer planner fails the job that it names, so that its run ends', async () => {
    const t = testService();
    const run = 'run-1';
    const newer = JSON.stringify({ version: 2, run, id: 'a' });
    await t.state.runs.begin({ id: run, trigger: 'schedule' });
    await t.state.runs.addJobs(run, [{ id: 'a', title: 'a', body: newer }]);
    expect(await work(delivery(newer), t.worker(lab.session().backends).context, FOREVER)).toEqual({ type: 'done' });
    expect((await t.run(run)).jobs).toMatchObject({ failed: 1, waiting: 0 });
  });

  test.each([
    ['docker://host.example/app:1', ['docker://host.example/APP:1'], /names are lower case/],
    ['docker://host.example/app:1', [`docker://host.example/${'x/'.repeat(900)}x:1`], /longer than 256 characters/],
  ])('with an invalid place (%s) is a dead letter', async (from, to, reason) => {
    const t = testService();
    const run = await t.enqueue({ kind: 'mirror', from, to });
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { failed: 1 });
    expect((await deadLettersOf(t))[0]?.reason).toMatch(reason);
  });

  test('with a key that no table accepts is a dead letter', async () => {
    const t = testService();
    const run = await t.enqueue({
      kind: 'backup',
      from: at(registry, 'x'),
      to: [`s3://${bucket}/${'y'.repeat(1500)}`],
    });
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { failed: 1 });
  });

  test('by hand with more settings than an item of the table holds is done like others', async () => {
    const t = testService({ allow: [registry.host] });
    const { image, from } = await pushed('work/settings');
    const create = { repositoryPolicy: JSON.stringify({ Version: '2012-10-17', pad: 'x'.repeat(500_000) }) };
    const to = at(registry, 'work/settings-copy');
    await t.queue.send([{ body: JSON.stringify({ version: 1, kind: 'mirror', from, to: [to], create }) }]);
    await t.worker(lab.session().backends).drain();
    expect(await t.state.runs.list()).toMatchObject([{ trigger: 'request', jobs: { done: 1 } }]);
    await expectSameImage(image.content, lab.view(registry, 'work/settings-copy'), image.root);
  });

  test('written by hand is a run of its own, and the same run when it is redelivered', async () => {
    const t = testService({ allow: ['111111111111'] });
    const { image, from } = await pushed('work/by-hand');
    const to = at(ecr, 'work/by-hand');
    await t.queue.send([{ body: JSON.stringify({ version: 1, kind: 'mirror', from, to: [to] }) }]);
    const worker = t.worker(lab.session().backends);
    t.queue.deliveryFaults.add({}, { kind: 'duplicate' });
    await worker.drain();
    const runs = await t.state.runs.list();
    expect(runs).toMatchObject([{ trigger: 'request', jobs: { done: 1 } }]);
    await expectSameImage(image.content, lab.view(ecr, 'work/by-hand'), image.root);
    await expectFree(t, to);
  });

  test('is deleted when it starts nothing', async () => {
    const t = testService();
    await t.queue.send([{ body: JSON.stringify({ 'detail-type': 'ECR Image Scan', detail: {} }) }]);
    await t.worker(lab.session().backends).drain();
    expect(t.events).toEqual([]);
    expect(t.deadLetters.bodies).toEqual([]);
  });
});

describe('a message that plans', () => {
  const rule: CopyRule = {
    name: 'products',
    kind: 'mirror',
    from: [`${ecr.registryHost}/planned/*`],
    to: [`${otherEcr.registryHost}/{repository}`],
    schedule: { cron: '0 2 * * *', timeZone: 'UTC' },
    onPush: true,
    tags: { include: [], exclude: [], untagged: false },
    platforms: [],
    referrers: true,
  };

  test('of a push becomes a job, which copies the image', async () => {
    const t = testService();
    await t.state.rules.put({ name: rule.name, document: formatRule(rule) }, 0);
    const { image } = await pushed('planned/pushed', ecr);
    const { digest, mediaType } = image.root.descriptor;
    const event = {
      version: '0',
      id: '13cde686-328b-6117-af20-0e5566167482',
      'detail-type': 'ECR Image Action',
      source: 'aws.ecr',
      account: '111111111111',
      time: '2026-01-01T00:00:00Z',
      region: 'us-east-1',
      resources: [],
      detail: {
        result: 'SUCCESS',
        'repository-name': 'planned/pushed',
        'image-digest': digest,
        'manifest-media-type': mediaType,
        'action-type': 'PUSH',
        'image-tag': 'v1',
      },
    };
    await t.queue.send([{ body: JSON.stringify(event) }]);
    t.queue.deliveryFaults.add({}, { kind: 'duplicate' });
    await t.worker(lab.session().backends).drain();
    // the job that plans and the job that copies
    await expectEnded(t, `push-${event.id}-products`, { done: 2 });
    expect(await t.state.runs.list()).toMatchObject([{ rule: 'products', trigger: 'push' }]);
    await expectSameImage(image.content, lab.view(otherEcr, 'planned/pushed'), image.root);
  });

  test('of a push to an unavailable registry is redelivered, and becomes a dead letter', async () => {
    const t = testService();
    await t.state.rules.put({ name: rule.name, document: formatRule(rule) }, 0);
    const event = {
      'detail-type': 'ECR Image Action',
      id: 'away',
      account: '111111111111',
      region: 'us-east-1',
      time: '2026-01-01T00:00:00Z',
      detail: {
        result: 'SUCCESS',
        'repository-name': 'planned/never',
        'image-digest': `sha256:${'7f'.repeat(32)}`,
        'action-type': 'PUSH',
        'image-tag': 'v1',
      },
    };
    await t.queue.send([{ body: JSON.stringify(event) }]);
    ecr.faults.add({ operation: 'DescribeImages', times: 1000 }, { kind: 'answer', status: 500 });
    await t.worker(lab.session().backends).drain();
    ecr.faults.clear();
    const failed = t.events.filter(({ type }) => type === 'job-failed');
    expect(failed).toHaveLength(8);
    expect(failed.at(-1)).toMatchObject({ job: { kind: 'plan', run: 'push-away-products' }, again: false });
    expect(await deadLettersOf(t)).toMatchObject([{ body: expect.stringContaining('push-away-products') }]);
  });

  test('by hand plans a rule, whose jobs are done like all others', async () => {
    const t = testService();
    await t.state.rules.put({ name: rule.name, document: formatRule(rule) }, 0);
    const { image } = await pushed('planned/by-hand', ecr);
    await t.queue.send([{ body: JSON.stringify({ version: 1, kind: 'plan', rule: 'products' }) }]);
    await t.worker(lab.session().backends).drain();
    const [run] = await t.state.runs.list();
    expect(run).toMatchObject({ rule: 'products', trigger: 'request', endedAtMs: expect.any(Number) as number });
    expect(run?.jobs.failed).toBe(0);
    await expectSameImage(image.content, lab.view(otherEcr, 'planned/by-hand'), image.root);
  });

  test('of a rule that is gone is a dead letter, and its run ends', async () => {
    const t = testService();
    await t.queue.send([{ body: JSON.stringify({ version: 1, kind: 'plan', rule: 'gone' }) }]);
    await t.worker(lab.session().backends).drain();
    expect((await deadLettersOf(t))[0]?.reason).toMatch(/^NOT_FOUND: there is no rule "gone"/);
    const [run] = await t.state.runs.list();
    await expectEnded(t, run?.id ?? '', { failed: 1 });
  });
});

describe('a message that is redelivered', () => {
  test('costs no registry a request after its job has ended', async () => {
    const t = testService();
    const { from } = await pushed('work/again');
    const to = at(ecr, 'work/again');
    const run = await t.enqueue(mirrorJob(from, to));
    const [body = ''] = t.queue.bodies;
    const worker = t.worker(lab.session().backends);
    await worker.drain();
    await t.queue.send([{ body }]);
    const requests = await requestsDuring(registry, async () => {
      expect(await requestsDuring(ecr, async () => worker.drain())).toEqual({});
    });
    expect(requests).toEqual({});
    await expectEnded(t, run, { done: 1 });
  });

  test('is redelivered later while its job is running, and never writes', async () => {
    const t = testService();
    const { image, from } = await pushed('work/twice');
    const to = at(ecr, 'work/twice');
    const run = await t.enqueue(mirrorJob(from, to));
    const gate = gated(lab.session().backends);
    const first = t.worker(gate.backends).next();
    await gate.reached;
    await t.queue.send(t.queue.bodies.map((body) => ({ body })));
    const second = t.worker(lab.session().backends);
    const writes = await requestsDuring(ecr, async () => {
      expect((await second.next())?.outcome).toEqual({ type: 'again', seconds: 3 });
    });
    expect(writes).toEqual({});
    expect((await t.run(run)).jobs).toMatchObject({ running: 1 });
    gate.open();
    expect((await first)?.outcome).toEqual({ type: 'done' });
    await second.drain();
    await expectEnded(t, run, { done: 1 });
    await expectSameImage(image.content, lab.view(ecr, 'work/twice'), image.root);
  });

  test('too often is replaced by a new one, before the queue counts it as ending its workers', async () => {
    const t = testService();
    const { from } = await pushed('work/busy');
    const to = at(ecr, 'work/busy');
    const run = await t.enqueue(mirrorJob(from, to));
    const other = await t.state.destinations.lock(destinationKey(to), 3600);
    const worker = t.worker(lab.session().backends);
    for (let i = 0; i < 25; i++) {
      await t.clock.advance(60_000);
      expect(await worker.next()).toBeDefined();
    }
    expect(t.deadLetters.bodies).toEqual([]);
    expect(t.queue.bodies).toHaveLength(1);
    // waiting is no attempt
    const [job] = await Array.fromAsync(t.state.runs.jobs(run));
    expect(job).toMatchObject({ attempts: 0, state: 'waiting' });
    // and the message does not count as lost
    expect(job?.changedAtMs).toBeGreaterThan(t.clock.now() - 15 * 60_000);
    await other?.[Symbol.asyncDispose]();
    await worker.drain();
    await expectEnded(t, run, { done: 1 });
  });

  test.each(['duplicate', 'reorder', 'reappear'] as const)('as %s: each job is counted once', async (fault) => {
    const t = testService();
    const { image, from } = await pushed(`work/${fault}`);
    const places = Array.from({ length: 8 }, (_, i) => at(i % 2 === 0 ? ecr : otherEcr, `work/${fault}-${i}`));
    const run = await t.enqueue(...places.map((to) => mirrorJob(from, to)));
    t.queue.deliveryFaults.add({ times: 12 }, { kind: fault });
    const workers = [
      t.worker(lab.session().backends),
      t.worker(lab.session().backends),
      t.worker(lab.session().backends),
    ];
    await Promise.all(workers.map(async (worker) => worker.drain()));
    const { jobs } = await t.run(run);
    expect(jobs.done + jobs.skipped).toBe(8);
    await expectEnded(t, run, jobs);
    await expectFree(t, ...places);
    for (const [i] of places.entries())
      await expectSameImage(image.content, lab.view(i % 2 === 0 ? ecr : otherEcr, `work/${fault}-${i}`), image.root);
  });
});

const FOREVER = { signal: new AbortController().signal };

function delivery(body: string): Delivery {
  return {
    id: 'by-somebody',
    body,
    receiveCount: 1,
    sentAtMs: Date.UTC(2026, 0, 1),
    firstReceivedAtMs: Date.UTC(2026, 0, 1),
    reason: undefined,
    extend: async () => undefined,
    settle: async () => undefined,
  };
}
