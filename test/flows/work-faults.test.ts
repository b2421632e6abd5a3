import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { openImage } from '../../worker/archive/reader.ts';
import { consume, type Handle } from '../../worker/queue/consume.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { work } from '../../worker/service/worker/work.ts';
import { destinationKey } from '../../worker/rules/destinations.ts';
import type { Table } from '../../worker/state/table.ts';
import { Failure } from '../../worker/util/failure.ts';
import { gated, replaceBackends } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { counting } from '../support/faulty-content.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab, PASSWORD, requestsDuring } from '../support/lab.ts';
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
afterEach(() => {
  for (const { faults } of [registry, ecr, otherEcr, s3]) faults.clear();
});
const { ecr, otherEcr, registry, bucket, s3 } = lab.stack;

const at = (where: LocalRegistry, name: string, tag = 'v1'): string => `docker://${where.registryHost}/${name}:${tag}`;

const NOW = '2026-01-01T00:00:00.000Z';
const HOUR_MS = 3_600_000;

let images = 0;
async function pushed(name: string, where = registry): Promise<{ readonly image: MadeImage; readonly from: string }> {
  const image = await makeImage({ seed: 2000 + ++images });
  await lab.push(image, where, name);
  return { image, from: at(where, name) };
}

/** The events of the job itself. */
const story = (t: TestService): readonly unknown[] =>
  t.events
    .filter((event) => event.type.startsWith('job-'))
    .map((event) =>
      event.type === 'job-failed' ? `${event.type} ${event.code}${event.again ? ', again' : ''}` : event.type,
    );

describe('a job with transient faults', () => {
  test('continues when tokens of ECR expire during a layer', async () => {
    const t = testService();
    const { image, from } = await pushed('faults/token', otherEcr);
    otherEcr.faults.add({ operation: 'blob-get', skip: 2 }, { kind: 'expire-token' });
    ecr.faults.add({ operation: 'upload-put', skip: 1 }, { kind: 'expire-token' });
    const run = await t.enqueue(mirrorJob(from, at(ecr, 'faults/token')));
    await t.worker(lab.session().backends).drain();
    expect([otherEcr.faults.pending, ecr.faults.pending]).toEqual([0, 0]);
    await expectEnded(t, run, { done: 1 });
    await expectSameImage(image.content, lab.view(ecr, 'faults/token'), image.root);
    expect(story(t)).toEqual(['job-started', 'job-done']);
  });

  test('is redelivered while S3 is unavailable, and sends no part twice', async () => {
    const t = testService();
    const { image, from } = await pushed('faults/s3-away', ecr);
    const to = `s3://${bucket}/faults/s3-away.tar`;
    const run = await t.enqueue({ kind: 'backup', from, to: [to] });
    const worker = t.worker(lab.session().backends);
    s3.faults.add({ times: Infinity }, { kind: 'answer', status: 503, code: 'ServiceUnavailable' });
    expect((await worker.next())?.outcome).toEqual({ type: 'again', seconds: 33 });
    expect(await Array.fromAsync(t.state.runs.jobs(run))).toMatchObject([
      { state: 'waiting', attempts: 1, code: 'UNAVAILABLE', reason: expect.stringContaining('S3') as string },
    ]);
    await t.clock.advance(33_000);
    expect((await worker.next())?.outcome).toEqual({ type: 'again', seconds: 66 });
    s3.faults.clear();
    await worker.drain();
    await expectEnded(t, run, { done: 1 });
    await using archived = await openImage(lab.session().backends.bucket(bucket), 'faults/s3-away.tar');
    await expectSameImage(image.content, archived, image.root);
    const [failed, started] = ['job-failed UNAVAILABLE, again', 'job-started'];
    expect(story(t)).toEqual([started, failed, started, failed, started, 'job-done']);
    await expectFree(t, to);
  });

  test.each([
    ['S3', 400, 'ExpiredToken', 'UNAUTHENTICATED'],
    ['S3', 400, 'RequestTimeout', 'UNAVAILABLE'],
    ['ECR', 400, 'ExpiredTokenException', 'UNAUTHENTICATED'],
    ['ECR', 400, 'RequestExpired', 'UNAVAILABLE'],
  ] as const)('is retried while %s answers %i %s', async (side, status, code, reported) => {
    const t = testService();
    const name = `faults/${side}-${code}`.toLowerCase();
    const { image, from } = await pushed(name, ecr);
    const to = side === 'S3' ? `s3://${bucket}/${name}/v1.tar` : at(otherEcr, name);
    const run = await t.enqueue({ kind: side === 'S3' ? 'backup' : 'mirror', from, to: [to] });
    const worker = t.worker(lab.session().backends);
    for (const server of side === 'S3' ? [s3] : [ecr, otherEcr])
      server.faults.add(
        side === 'S3' ? { times: Infinity } : { operation: 'GetAuthorizationToken' as never, times: Infinity },
        { kind: 'answer', status, code },
      );
    expect((await worker.next())?.outcome).toMatchObject({ type: 'again' });
    expect(story(t)).toEqual(['job-started', `job-failed ${reported}, again`]);
    for (const { faults } of [s3, ecr, otherEcr]) faults.clear();
    await worker.drain();
    await expectEnded(t, run, { done: 1 });
    expect(await deadLettersOf(t)).toEqual([]);
    if (side === 'ECR') await expectSameImage(image.content, lab.view(otherEcr, name), image.root);
  });

  test.each([429, 500] as const)('is redelivered while a registry answers %i', async (status) => {
    const t = testService();
    const { image, from } = await pushed(`faults/${status}`);
    const run = await t.enqueue(mirrorJob(from, at(ecr, `faults/${status}`)));
    registry.faults.add({ operation: 'manifest-get', times: 1000 }, { kind: 'answer', status });
    const worker = t.worker(lab.session().backends);
    expect((await worker.next())?.outcome).toMatchObject({ type: 'again' });
    registry.faults.clear();
    await worker.drain();
    await expectEnded(t, run, { done: 1 });
    await expectSameImage(image.content, lab.view(ecr, `faults/${status}`), image.root);
  });

  test('is not done before the settings of its repository are stored, though S3 was unavailable for them', async () => {
    const t = testService();
    const { from } = await pushed('faults/settings', ecr);
    const run = await t.enqueue({ kind: 'backup', from, to: [`s3://${bucket}/faults/settings/v1.tar`] });
    const key = 'faults/settings/repository.json';
    s3.faults.add({ operation: 'PutObject', key, times: 1000 }, { kind: 'answer', status: 503, code: 'SlowDown' });
    const worker = t.worker(lab.session().backends);
    expect((await worker.next())?.outcome).toMatchObject({ type: 'again' });
    s3.faults.clear();
    await worker.drain();
    await expectEnded(t, run, { skipped: 1 });
    await expect(lab.session().backends.bucket(bucket).stat(key)).resolves.toMatchObject({ key });
  });

  test('waits at least for as long as the other side asks', async () => {
    const t = testService();
    const { from } = await pushed('faults/later');
    await t.enqueue(mirrorJob(from, at(ecr, 'faults/later')));
    registry.faults.add(
      { operation: 'manifest-get', times: 100 },
      { kind: 'answer', status: 429, retryAfterSeconds: 600 },
    );
    expect((await t.worker(lab.session().backends).next())?.outcome).toEqual({ type: 'again', seconds: 660 });
  });

  test('is a dead letter after eight attempts, within an hour, when the fault never passes', async () => {
    const t = testService();
    const { from } = await pushed('faults/never');
    const run = await t.enqueue(mirrorJob(from, at(ecr, 'faults/never')));
    registry.faults.add({ operation: 'manifest-get', times: 100_000 }, { kind: 'answer', status: 500 });
    const startedMs = t.clock.now();
    await t.worker(lab.session().backends).drain();
    expect(t.clock.now() - startedMs).toBeLessThan(3_600_000);
    await expectEnded(t, run, { failed: 1 });
    expect(story(t).filter((line) => line === 'job-started')).toHaveLength(8);
    expect(story(t).at(-1)).toBe('job-failed UNAVAILABLE');
    expect(await deadLettersOf(t)).toMatchObject([
      { reason: expect.stringMatching(/^UNAVAILABLE: source: /) as string },
    ]);
    const [job] = await Array.fromAsync(t.state.runs.jobs(run));
    expect(job).toMatchObject({ state: 'failed', attempts: 8, code: 'UNAVAILABLE' });
  });

  test('is a dead letter after it ended eight workers', async () => {
    const t = testService();
    const { from } = await pushed('faults/killer');
    const run = await t.enqueue(mirrorJob(from, at(ecr, 'faults/killer')));
    const [job] = await Array.fromAsync(t.state.runs.jobs(run));
    for (let i = 0; i < 8; i++) await t.state.runs.startJob(run, job?.id ?? '');
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { failed: 1 });
    expect((await deadLettersOf(t))[0]?.reason).toMatch(/8 workers crashed or were stopped while running this job/);
  });
});

describe('a job without credentials', () => {
  test('is redelivered: its worker had credentials to receive the message, so they are missing for a while only', async () => {
    const t = testService();
    const { image, from } = await pushed('faults/without');
    const run = await t.enqueue(mirrorJob(from, at(ecr, 'faults/without')));
    const { backends } = lab.session();
    let away = true;
    const worker = t.worker({
      ...backends,
      registry: (host, side) => {
        if (!away) return backends.registry(host, side);
        away = false;
        throw new Failure('UNAUTHENTICATED', 'sign in to ECR: no credentials', { context: { noCredentials: true } });
      },
    });
    await worker.drain();
    expect(story(t).slice(0, 2)).toEqual(['job-started', 'job-failed UNAUTHENTICATED, again']);
    await expectEnded(t, run, { done: 1 });
    expect(await deadLettersOf(t)).toEqual([]);
    await expectSameImage(image.content, lab.view(ecr, 'faults/without'), image.root);
  });
});

describe('a job that cannot be done', () => {
  test('is a dead letter at once when the image does not exist', async () => {
    const t = testService();
    const from = at(registry, 'faults/unknown');
    const run = await t.enqueue(mirrorJob(from, at(ecr, 'faults/unknown')));
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { failed: 1 });
    expect(story(t)).toEqual(['job-started', 'job-failed NOT_FOUND']);
    const [deadLetter] = await deadLettersOf(t);
    expect(deadLetter?.reason).toMatch(/^NOT_FOUND: source: .*faults\/unknown/);
    expect(JSON.parse(deadLetter?.body ?? '')).toMatchObject({ run, from });
    expect(await Array.fromAsync(t.state.runs.jobs(run))).toMatchObject([{ state: 'failed', code: 'NOT_FOUND' }]);
  });

  test('is a dead letter that names wrong credentials, and contains none', async () => {
    const t = testService();
    const guarded = await lab.registry({ mode: 'oci', auth: 'basic', users: { ann: PASSWORD } });
    const { from } = await pushed('faults/credentials');
    const run = await t.enqueue(mirrorJob(from, at(guarded, 'faults/credentials')));
    await t.worker(lab.session({ target: { credentials: 'ann:wrong-wrong' } }).backends).drain();
    await expectEnded(t, run, { failed: 1 });
    const [deadLetter] = await deadLettersOf(t);
    expect(deadLetter?.reason).toMatch(/^UNAUTHENTICATED: target: /);
    expect(JSON.stringify([deadLetter, t.events])).not.toContain('wrong-wrong');
  });

  test('is done at its other destinations, once, when one of them fails', async () => {
    const t = testService();
    const { image: before, from: old } = await pushed('faults/before');
    const { image, from } = await pushed('faults/partly');
    const [immutable, away, good] = [
      at(ecr, 'faults/immutable'),
      at(registry, 'faults/away'),
      at(otherEcr, 'faults/good'),
    ];
    const worker = t.worker(lab.session().backends);
    await t.enqueue({ ...mirrorJob(old, immutable), create: { tagMutability: 'IMMUTABLE' } });
    await worker.drain();
    const run = await t.enqueue(mirrorJob(from, immutable, away, good));
    registry.faults.add({ operation: 'upload-post', times: 1000 }, { kind: 'answer', status: 503 });
    await worker.next();
    expect(story(t).at(-1)).toBe('job-failed UNAVAILABLE, again');
    expect(await t.state.destinations.get(destinationKey(good))).toMatchObject({ run });
    registry.faults.clear();
    await t.clock.advance(40_000);
    const counts = await requestsDuring(otherEcr, async () => worker.next());
    expect(Object.keys(counts).filter((kind) => /put|post|patch/.test(kind))).toEqual([]);
    await expectEnded(t, run, { failed: 1 });
    const { reason } = (await deadLettersOf(t))[0] ?? {};
    expect(reason).toMatch(/^CONFLICT: 1 of 3 destinations failed: .*faults\/immutable.*the tag is immutable/);
    await expectSameImage(before.content, lab.view(ecr, 'faults/immutable'), before.root);
    for (const where of [registry, otherEcr])
      await expectSameImage(
        image.content,
        lab.view(where, where === registry ? 'faults/away' : 'faults/good'),
        image.root,
      );
  });
});

describe('leases', () => {
  test('of several destinations are acquired all or none, and two jobs with the same ones both end', async () => {
    const t = testService();
    const { image, from } = await pushed('leases/overlap');
    const [a, b, c] = ['a', 'b', 'c'].map((name) => at(ecr, `leases/${name}`)) as [string, string, string];
    const [one, two] = [await t.enqueue(mirrorJob(from, a, b)), await t.enqueue(mirrorJob(from, c, b))];
    const gate = gated(lab.session().backends);
    const first = t.worker(gate.backends).next();
    await gate.reached;
    const second = t.worker(lab.session().backends);
    expect((await second.next())?.outcome).toMatchObject({ type: 'again' });
    await expectFree(t, c);
    gate.open();
    await first;
    await second.drain();
    await expectEnded(t, one, { done: 1 });
    await expectEnded(t, two, { done: 1 });
    await expectFree(t, a, b, c);
    await expectSameImage(image.content, lab.view(ecr, 'leases/b'), image.root);
  });

  test('end the work before its next write when another worker takes them over', async () => {
    const t = testService();
    const { image, from } = await pushed('leases/lost');
    const to = at(ecr, 'leases/lost');
    const run = await t.enqueue(mirrorJob(from, to));
    const gate = gated(lab.session().backends);
    const counts: ReturnType<typeof counting>['counts'][] = [];
    const watched = replaceBackends(gate.backends, {
      repository: (end, side) => {
        if (side === 'source') return end;
        const { end: counted, counts: count } = counting(end);
        counts.push(count);
        return counted;
      },
    });
    const first = t.worker(watched).next();
    await gate.reached;
    // another worker believes that this one has crashed
    await t.table.update(leaseOf(to), { set: { owner: 'another' }, add: { fence: 1 } }, {});
    await t.clock.advance(31_000);
    gate.open();
    expect((await first)?.outcome).toMatchObject({ type: 'again' });
    expect(counts.every(({ bytesPut, calls }) => bytesPut === 0 && calls.tag === 0)).toBe(true);
    expect(await t.state.destinations.get(destinationKey(to))).toBe(undefined);
    expect(story(t)).toEqual(['job-started', 'job-failed UNAVAILABLE, again']);
    // the other worker's lease expires in turn
    await t.clock.advance(200_000);
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { done: 1 });
    await expectSameImage(image.content, lab.view(ecr, 'leases/lost'), image.root);
  });

  test('do not stop the other destinations when one of them is lost', async () => {
    const t = testService();
    const { image, from } = await pushed('leases/partly');
    const [lost, kept] = [at(ecr, 'leases/partly'), at(otherEcr, 'leases/partly')];
    const run = await t.enqueue(mirrorJob(from, lost, kept));
    const gate = gated(lab.session().backends);
    const first = t.worker(gate.backends).next();
    await gate.reached;
    await t.table.update(leaseOf(lost), { set: { owner: 'another' }, add: { fence: 1 } }, {});
    await t.clock.advance(31_000);
    gate.open();
    expect((await first)?.outcome).toMatchObject({ type: 'again' });
    expect(await t.state.destinations.get(destinationKey(kept))).toMatchObject({ run });
    await expectSameImage(image.content, lab.view(otherEcr, 'leases/partly'), image.root);
  });

  test('of a worker that was killed are free when they have expired', async () => {
    const t = testService();
    const { from } = await pushed('leases/killed');
    const to = at(ecr, 'leases/killed');
    const run = await t.enqueue(mirrorJob(from, to));
    // its lease, which no worker renews
    await t.table.update(
      leaseOf(to),
      { set: { owner: 'the dead', fence: 1, leaseUntilMs: t.clock.now() + 90_000 } },
      {},
    );
    const worker = t.worker(lab.session().backends);
    const startedMs = t.clock.now();
    await worker.drain();
    expect(t.clock.now() - startedMs).toBeLessThan(240_000);
    await expectEnded(t, run, { done: 1 });
  });
});

describe('a worker that stops', () => {
  test('hands its job back at once, which is no attempt', async () => {
    const t = testService();
    const { image, from } = await pushed('stops/app');
    const to = at(ecr, 'stops/app');
    const run = await t.enqueue(mirrorJob(from, to));
    const gate = gated(lab.session().backends);
    const stop = new AbortController();
    const first = t.worker(gate.backends).next({ signal: stop.signal });
    await gate.reached;
    stop.abort();
    expect((await first)?.outcome).toEqual({ type: 'again', seconds: 0 });
    expect(await Array.fromAsync(t.state.runs.jobs(run))).toMatchObject([{ state: 'waiting', attempts: 0 }]);
    await expectFree(t, to);
    expect(story(t)).toEqual(['job-started', 'job-handed-back']);
    // the test advances no time
    expect((await t.worker(lab.session().backends).next())?.outcome).toEqual({ type: 'done' });
    await expectEnded(t, run, { done: 1 });
    await expectSameImage(image.content, lab.view(ecr, 'stops/app'), image.root);
  });

  test('requests nothing when it stops before it begins', async () => {
    const t = testService();
    await t.enqueue(mirrorJob(at(registry, 'x'), at(ecr, 'x')));
    const { outcome } = (await t.worker(lab.session().backends).next({ signal: AbortSignal.abort() })) ?? {};
    expect(outcome).toEqual({ type: 'again', seconds: 0 });
    expect(t.events).toEqual([]);
  });
});

describe('a job of nearly twelve hours', () => {
  test('continues in a new message, with what it has done', async () => {
    const t = testService();
    const { image, from } = await pushed('long/app', ecr);
    const to = `s3://${bucket}/long/app.tar`;
    const run = await t.enqueue({ kind: 'backup', from, to: [to] });
    const gate = gated(lab.session().backends, { letThrough: 1 });
    const { context } = t.worker(gate.backends);
    const stopping = new AbortController();
    const handle: Handle = async (d, o) => work(d, context, o);
    const consuming = consume(t.queue, handle, { slots: 1, stopping: stopping.signal, clock: t.clock });
    await gate.reached;
    await eventually(() => expect(t.events.map(({ type }) => type)).toContain('blob-progress'));
    await t.clock.advance(11.7 * HOUR_MS);
    expect(story(t)).toEqual(['job-started']);
    await t.clock.advance(0.1 * HOUR_MS);
    await eventually(() => expect(story(t)).toEqual(['job-started', 'job-handed-back', 'job-started']));
    expect(t.queue.bodies.map((body) => JSON.parse(body) as object)).toMatchObject([{ run, handovers: 1 }]);
    gate.open();
    await eventually(async () => expectEnded(t, run, { done: 1 }));
    stopping.abort();
    await consuming;
    expect(await Array.fromAsync(t.state.runs.jobs(run))).toMatchObject([{ attempts: 1 }]);
    expect(t.deadLetters.bodies).toEqual([]);
    await using archived = await openImage(lab.session().backends.bucket(bucket), 'long/app.tar');
    await expectSameImage(image.content, archived, image.root);
  });

  test('has used up an attempt when it copied nothing in that time', async () => {
    const t = testService();
    const { from } = await pushed('stuck/app');
    const run = await t.enqueue(mirrorJob(from, at(ecr, 'stuck/app')));
    for (let attempt = 1; attempt <= 8; attempt++) {
      const tooOld = new AbortController();
      const gate = gated(lab.session().backends);
      const working = t.worker(gate.backends).next({ signal: tooOld.signal });
      await gate.reached;
      tooOld.abort(new Failure('ABORTED', 'too old', { context: { handover: true } }));
      expect((await working)?.outcome).toEqual({ type: 'done' });
      expect(t.queue.bodies).toHaveLength(attempt < 8 ? 1 : 0);
      await t.clock.advance(HOUR_MS);
    }
    expect(story(t).at(-1)).toBe('job-failed UNAVAILABLE');
    await expectEnded(t, run, { failed: 1 });
    expect(await deadLettersOf(t)).toMatchObject([{ reason: expect.stringContaining('nothing was copied') as string }]);
  });

  test.each([
    ['a job', { version: 1, kind: 'mirror', from: at(registry, 'x'), to: [at(ecr, 'x')], id: '1', run: '2', at: NOW }],
    ['a request', { version: 1, kind: 'mirror', from: at(registry, 'x'), to: [at(ecr, 'x')] }],
    ['a push', pushEvent()],
  ])('is not begun with a message that expires soon: %s', async (_, message) => {
    const t = testService();
    await t.queue.send([{ body: JSON.stringify(message) }]);
    const signal = AbortSignal.abort(new Failure('ABORTED', 'too old', { context: { handover: true } }));
    const old = await t.worker(lab.session().backends).next({ signal });
    expect(old?.outcome).toEqual({ type: 'done' });
    expect(t.queue.bodies).toHaveLength(1);
    expect(t.events).toEqual([]);
    // a request keeps the id of its run
    const runs = await t.state.runs.list();
    expect(runs.map((run) => [run.id, run.jobs.waiting])).toEqual(
      'id' in message || !('from' in message) ? [] : [[`request-${old?.delivery.id}`, 1]],
    );
  });
});

describe('a table', () => {
  test('loses nothing when it throttles for a while, and counts each job once', async () => {
    const t = testService();
    const { image, from } = await pushed('table/throttled');
    const places = ['a', 'b', 'c', 'd'].map((name) => at(ecr, `table/${name}`));
    const run = await t.enqueue(...places.map((to) => mirrorJob(from, to)));
    let calls = 0;
    const throttled = failingTable(t.table, () => ++calls <= 60 && calls % 3 !== 0);
    await t.worker(lab.session().backends, { table: throttled }).drain();
    const { jobs } = await t.run(run);
    expect(jobs.done + jobs.skipped).toBe(4);
    await t.clock.advance(300_000);
    await expectFree(t, ...places);
    for (const name of ['a', 'b', 'c', 'd'])
      await expectSameImage(image.content, lab.view(ecr, `table/${name}`), image.root);
  });

  test('is reported when it is unavailable, and the message is redelivered', async () => {
    const t = testService();
    const { from } = await pushed('table/away');
    const run = await t.enqueue(mirrorJob(from, at(ecr, 'table/away')));
    const away = t.worker(lab.session().backends, { table: failingTable(t.table, () => true) });
    expect((await away.next())?.outcome).toMatchObject({ type: 'again' });
    expect(t.events).toMatchObject([{ type: 'warning', of: undefined }]);
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { done: 1 });
  });
});

test('dead letters that cannot be sent keep the job in the queue', async () => {
  const t = testService();
  const run = await t.enqueue(mirrorJob(at(registry, 'letters/unknown'), at(ecr, 'letters/unknown')));
  t.deadLetters.faults.goAway();
  const worker = t.worker(lab.session().backends);
  expect((await worker.next())?.outcome).toMatchObject({ type: 'again' });
  expect((await t.run(run)).jobs.failed).toBe(0);
  t.deadLetters.faults.comeBack();
  await worker.drain();
  await expectEnded(t, run, { failed: 1 });
  expect(await deadLettersOf(t)).toHaveLength(1);
});

function pushEvent(): Readonly<Record<string, unknown>> {
  return {
    'detail-type': 'ECR Image Action',
    source: 'aws.ecr',
    id: '13cde686-328b-6117-af20-0e5566167482',
    account: '111111111111',
    region: 'us-east-1',
    time: NOW,
    detail: {
      result: 'SUCCESS',
      'action-type': 'PUSH',
      'repository-name': 'team/app',
      'image-digest': `sha256:${'7f'.repeat(32)}`,
      'image-tag': 'v1',
    },
  };
}

const leaseOf = (place: string): { readonly pk: string; readonly sk: string } => {
  const { group, name } = destinationKey(place);
  return { pk: `DEST#${group}`, sk: name };
};

function failingTable(table: Table, fails: () => boolean): Table {
  const check = (): void => {
    if (fails()) throw new Failure('THROTTLED', 'the table asks for fewer requests');
  };
  return {
    get: async (key, o) => {
      check();
      return table.get(key, o);
    },
    getEach: async (keys, o) => {
      check();
      return table.getEach(keys, o);
    },
    updateAll: async (changes, o) => {
      check();
      return table.updateAll(changes, o);
    },
    update: async (key, change, expected, o) => {
      check();
      return table.update(key, change, expected, o);
    },
    query: (pk, o) => {
      check();
      return table.query(pk, o);
    },
  };
}

test('a broken source image is named once for each destination, and not before all of them', async () => {
  const image = await makeImage({ seed: 92 });
  await lab.push(image, registry, 'broken-for-two');
  registry.faults.add({ operation: 'manifest-get', times: 100 }, { kind: 'lie-digest' });
  const t = testService();
  const from = at(registry, 'broken-for-two');
  await t.enqueue(mirrorJob(from, at(ecr, 'broken-for-two'), at(otherEcr, 'broken-for-two')));
  await t.worker(lab.session().backends).drain();
  const [letter] = await deadLettersOf(t);
  expect(letter?.reason).toMatch(/^CORRUPT: 2 of 2 destinations failed: docker:/);
});
