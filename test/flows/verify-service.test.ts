// Rules that verify, through planner, queue, workers and state, over the embedded S3 and ECR.
import assert from 'node:assert/strict';
import { afterAll, describe, expect, test } from 'vitest';
import { blobPath } from '../../worker/archive/plan.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { formatRule } from '../../worker/rules/config.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { Failure } from '../../worker/util/failure.ts';
import type { Run } from '../../worker/state/state.ts';
import { backedUpToStore } from '../support/backed-up.ts';
import { describeRules } from '../../worker/commands/rules.ts';
import { statusOfRules } from '../../worker/service/admin/status.ts';
import type { Event } from '../../worker/util/events.ts';
import { collect } from '../support/chunks.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { redrive } from '../../worker/service/admin/redrive.ts';
import type { Service } from '../../worker/service/service.ts';
import type { Queue } from '../../worker/queue/queue.ts';
import { hourlyRule } from '../support/rules.ts';
import { deadLettersOf, expectEnded, planRun, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr } = lab.stack;

/** A rule that verifies, and the service that runs it. */
async function service(name: string, words: string) {
  const t = testService();
  await t.state.rules.put({ name, document: formatRule(hourlyRule(name, `verify: ${words}`)) }, 0);
  const { backends } = lab.session();
  const worker = t.worker(backends);
  const ages: Event[] = [];
  const report = (event: Event): void => void (event.type === 'rule-age' && ages.push(event));
  return {
    t,
    worker,
    /** The age of the last good verification that planners reported. */
    ages,
    pass: async (hours = 0): Promise<Run> => planRun(t, backends, { hours, report }),
  };
}

/** The service as `redrive` sees it: no time passes while it waits for dead letters. */
function unwaited({ state, queue, deadLetters }: TestService): Service {
  const letters: Queue = {
    name: deadLetters.name,
    receive: async (max, options) => deadLetters.receive(max, { ...options, waitSeconds: 0 }),
    count: async (options) => deadLetters.count(options),
    send: async (messages, options) => deadLetters.send(messages, options),
  };
  return { state, queue, deadLetters: letters };
}

describe('a rule that verifies', () => {
  test('makes one job a place, each run reads the next part, and the result is reported', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [500] });
    await lab.push(image, ecr, 'proved/app');
    const to = `store:s3://${bucket}/proved/`;
    await backedUpToStore(`${ecr.registryHost}/proved/*`, to, lab.session());
    const s = await service('prove', `{ at: ['${to}', '${ecr.registryHost}/proved/*'], depth: bytes, sample: 50% }`);
    const slices: unknown[] = [];
    let hashed = 0;
    for (const hours of [0, 1]) {
      const run = await s.pass(hours);
      await s.worker.drain();
      await expectEnded(s.t, run.id, { done: 2 });
    }
    for (const event of s.t.events) {
      if (event.type !== 'verify-ended' || event.place !== to) continue;
      slices.push(event.sample?.slice);
      hashed += event.blobs?.checked ?? 0;
      expect(event).toMatchObject({ depth: 'bytes', findings: 0, complete: false });
    }
    expect(new Set(slices)).toEqual(new Set([0, 1]));
    const blobs = await Array.fromAsync(lab.session().backends.bucket(bucket).list('proved/blobs/'));
    expect(hashed).toBe(blobs.length);
  });

  test('reports the age of its last verification without a finding, and status shows it', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [500], seed: 3 });
    await lab.push(image, ecr, 'aged/app');
    const to = `store:s3://${bucket}/aged/`;
    await backedUpToStore(`${ecr.registryHost}/aged/*`, to, lab.session());
    const s = await service('aged', `{ at: '${to}' }`);
    const shown = async (): Promise<string> =>
      describeRules(await statusOfRules(s.t.state, { clock: s.t.clock }), s.t.clock.now());
    expect(await shown()).toMatch(/aged +verify .* never/);
    const good = await s.pass();
    await s.worker.drain();
    await expectEnded(s.t, good.id, { done: 1 });
    const [blob] = blobsOf(await walk(image.content, [image.root]));
    assert(blob);
    await lab
      .session()
      .backends.bucket(bucket)
      .write(`aged/${blobPath(blob.digest)}`, Buffer.from('short'));
    const failed = await s.pass(1);
    await s.worker.drain();
    await expectEnded(s.t, failed.id, { failed: 1 });
    await s.pass(1);
    expect(await shown()).toMatch(/aged +verify .* verified 2h00m ago/);
    expect(s.ages).toEqual([
      { type: 'rule-age', rule: 'aged', what: 'verification', ageSeconds: 0, overdueSeconds: 0 },
      { type: 'rule-age', rule: 'aged', what: 'verification', ageSeconds: 3600, overdueSeconds: 0 },
      { type: 'rule-age', rule: 'aged', what: 'verification', ageSeconds: 7200, overdueSeconds: 3600 },
    ]);
  });

  test('fails its job with what it finds, and names it', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [500], seed: 2 });
    await lab.push(image, ecr, 'damaged/app');
    const to = `store:s3://${bucket}/damaged/`;
    await backedUpToStore(`${ecr.registryHost}/damaged/*`, to, lab.session());
    const [blob] = blobsOf(await walk(image.content, [image.root]));
    assert(blob);
    const store = lab.session().backends.bucket(bucket);
    const key = `damaged/${blobPath(blob.digest)}`;
    const bytes = Buffer.from(await collect(await store.read(key)));
    bytes[0] = (bytes[0] ?? 0) ^ 1;
    await store.write(key, bytes);
    const s = await service('prove-damaged', `{ at: '${to}', depth: bytes }`);
    const run = await s.pass();
    await s.worker.drain();
    await expectEnded(s.t, run.id, { failed: 1 });
    const [job] = await Array.fromAsync(s.t.state.runs.jobs(run.id, {}));
    expect(job).toMatchObject({ code: 'CORRUPT', title: `verify ${to} (bytes)` });
    expect(job?.reason).toContain(`faulty: ${blob.digest}`);
    expect(s.t.events).toContainEqual(expect.objectContaining({ type: 'verify-ended', place: to, findings: 1 }));

    // a later run may have read another part: only the job itself removes its dead letter
    const whole = Buffer.from(bytes);
    whole[0] = (whole[0] ?? 0) ^ 1;
    await store.write(key, whole);
    const later = await s.pass(1);
    await s.worker.drain();
    await expectEnded(s.t, later.id, { done: 1 });
    expect(await deadLettersOf(s.t)).toHaveLength(1);
    expect(await redrive({ rule: 'prove-damaged' }, unwaited(s.t), {})).toMatchObject({ redriven: 1, left: 0 });
    await s.worker.drain();
    await expectEnded(s.t, run.id, { done: 1 });
    expect(await deadLettersOf(s.t)).toEqual([]);
  });

  test('begins with its next part after the twelve hours of a message, and reads no other part again', async () => {
    for (const seed of [11, 12, 13, 14, 15]) {
      const image = await makeImage({ platforms: ['linux/amd64'], layers: [500, 600, 700], seed });
      await lab.push({ ...image, root: { ...image.root, tags: [`v${seed}`] } }, ecr, 'long/app');
    }
    const to = `store:s3://${bucket}/long/`;
    await backedUpToStore(`${ecr.registryHost}/long/*`, to, lab.session());
    const s = await service('long', `{ at: '${to}', depth: bytes }`);
    const { backends } = lab.session();
    const run = await s.pass();
    const reads: string[] = [];
    let [left, tooOld] = [0, new AbortController()];
    const deliver = async (readsUntilTooOld: number): Promise<void> => {
      [left, tooOld] = [readsUntilTooOld, new AbortController()];
      await s.t
        .worker({ ...backends, bucket: (name) => counting(backends.bucket(name)) })
        .next({ signal: tooOld.signal });
    };
    const counting = (store: ObjectStore): ObjectStore =>
      new Proxy(store, {
        get: (target, name) => {
          const member: unknown = Reflect.get(target, name);
          if (typeof member !== 'function') return member;
          return (...args: readonly unknown[]): unknown => {
            const [key] = args;
            if (name === 'read' && typeof key === 'string' && key.includes('/blobs/')) {
              if (--left === 0) tooOld.abort(new Failure('ABORTED', 'too old', { context: { handover: true } }));
              reads.push(key);
            }
            return Reflect.apply(member, target, args);
          };
        },
      });
    // it cannot finish as a whole in time
    await deliver(2);
    expect((await s.t.run(run.id)).jobs).toMatchObject({ waiting: 1 });
    const blobs = (await Array.fromAsync(backends.bucket(bucket).list('long/blobs/'))).length;
    reads.length = 0;
    await deliver(Math.floor(blobs / 2));
    const first = new Set(reads);
    expect(first.size).toBeLessThan(blobs);
    reads.length = 0;
    await deliver(Infinity);
    await expectEnded(s.t, run.id, { done: 1 });
    const again = reads.filter((key) => first.has(key));
    // those of the part that was interrupted
    expect(again.length).toBeLessThan(first.size / 2);
    expect(new Set([...first, ...reads]).size).toBe(blobs);
    expect(s.t.events.filter(({ type }) => type === 'verify-ended')).toEqual([
      expect.objectContaining({ place: to, blobs: { checked: blobs, of: blobs }, findings: 0, complete: false }),
    ]);
  });

  test('keeps the findings of its parts when it continues in another message', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [500, 600, 700], seed: 21 });
    await lab.push(image, ecr, 'kept/app');
    const to = `store:s3://${bucket}/kept/`;
    await backedUpToStore(`${ecr.registryHost}/kept/*`, to, lab.session());
    const [blob] = blobsOf(await walk(image.content, [image.root]));
    assert(blob);
    const store = lab.session().backends.bucket(bucket);
    await store.write(`kept/${blobPath(blob.digest)}`, Buffer.alloc(blob.size, 7));
    const s = await service('kept', `{ at: '${to}', depth: bytes }`);
    const run = await s.pass();
    const [body = ''] = s.t.queue.bodies;
    const job: unknown = JSON.parse(body);
    assert(typeof job === 'object' && job !== null && 'id' in job && typeof job.id === 'string');
    const found = { kind: 'missing', at: 'a/b:c', message: 'it was missing then' };
    const progress = { done: 3, names: { checked: 1, of: 1 }, hashedBytes: 5, findings: [found] };
    await s.t.state.runs.setVerified(run.id, job.id, JSON.stringify(progress));
    const worker = s.t.worker(lab.session().backends);
    await worker.next({
      signal: AbortSignal.abort(new Failure('ABORTED', 'too old', { context: { handover: true } })),
    });
    await worker.drain();
    const [failed] = await Array.fromAsync(s.t.state.runs.jobs(run.id, {}));
    expect(failed).toMatchObject({ state: 'failed', code: 'CORRUPT' });
    expect(failed?.reason).toContain('missing: a/b:c: it was missing then');
    expect(failed?.verified).toBeUndefined();
  });
});
