// Rules whose runs are drills, through planner, queue, workers, state and Cleaner, over the embedded S3 and ECR.
import assert from 'node:assert/strict';
import { afterAll, describe, expect, test } from 'vitest';
import { blobPath } from '../../worker/archive/plan.ts';
import { describeRules } from '../../worker/commands/rules.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { storeAndPrefix } from '../../worker/images/open-place.ts';
import { readProofs } from '../../worker/images/proof-record.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import { parseMessage } from '../../worker/queue/job.ts';
import { formatRule, parseConfig } from '../../worker/rules/config.ts';
import { runCleaner, type CleanResult } from '../../worker/service/cleaner/pass.ts';
import { statusOfRules } from '../../worker/service/admin/status.ts';
import { markOfDrill } from '../../worker/service/drill-mark.ts';
import type { Run } from '../../worker/state/state.ts';
import type { Event } from '../../worker/util/events.ts';
import { backedUpToStore } from '../support/backed-up.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { hourlyRule } from '../support/rules.ts';
import { expectEnded, HOUR_MS, planRun, poolOf, testService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr } = lab.stack;

/** A store with two images, a rule that drills it, and the service that runs it. */
async function service(name: string) {
  const place = `store:s3://${bucket}/${name}/`;
  for (const seed of [1, 2]) {
    const image = await makeImage({ seed, platforms: ['linux/amd64'], layers: [500] });
    await lab.push({ ...image, root: { ...image.root, tags: [`v${seed}`] } }, ecr, `${name}/app`);
  }
  await backedUpToStore(`${ecr.registryHost}/${name}/*`, place, lab.session());
  const verify = `{ at: '${place}', restoreTo: '${ecr.registryHost}/${name}-scratch' }`;
  const t = testService();
  await t.state.rules.put({ name, document: formatRule(hourlyRule(name, `verify: ${verify}`)) }, 0);
  const { backends } = lab.session();
  const events: Event[] = [];
  const report = (event: Event): void => void events.push(event);
  return {
    t,
    events,
    place,
    worker: t.worker(backends),
    pass: async (hours = 0): Promise<Run> => planRun(t, backends, { hours, report }),
    clean: async (): Promise<CleanResult> =>
      runCleaner(t.state, poolOf(backends), { clock: t.clock, reportOf: () => report }),
    scratch: async (): Promise<readonly string[]> => Array.fromAsync(lab.client(ecr).repositories(`${name}-scratch/`)),
  };
}

describe('a rule whose runs are drills', () => {
  test('restores into scratch repositories, which a Cleaner deletes when the job has ended', async () => {
    const s = await service('exercise');
    const run = await s.pass();
    expect(await s.clean()).toMatchObject({ scratch: { deleted: 0, failed: 0 } });
    const [waiting] = await Array.fromAsync(s.t.state.runs.jobs(run.id, {}));
    expect(waiting?.title).toBe(`drill ${s.place} in docker://${ecr.registryHost}/exercise-scratch`);
    await s.worker.drain();
    await expectEnded(s.t, run.id, { done: 1 });
    expect(s.t.events).toContainEqual(
      expect.objectContaining({
        type: 'drill-ended',
        place: s.place,
        images: { checked: 2, of: 2 },
        equal: 2,
        findings: 0,
      }),
    );
    const place = parsePlace(s.place);
    assert(place.kind === 'store');
    const { backends, options } = lab.session();
    const { proofs } = await readProofs(storeAndPrefix(place.root, backends), options);
    expect(proofs).toMatchObject([{ kind: 'drill', findings: 0, restored: [`${ecr.registryHost}/exercise/app`] }]);
    expect(await s.scratch()).toHaveLength(1);
    expect(await s.clean()).toMatchObject({ scratch: { deleted: 1, failed: 0 } });
    expect(await s.scratch()).toEqual([]);
    expect(s.events).toContainEqual(expect.objectContaining({ type: 'scratch-deleted' }));
  });

  test('leaves nothing when its rule is removed before its Cleaner came', async () => {
    const s = await service('removed');
    const run = await s.pass();
    await s.clean();
    await s.worker.drain();
    expect((await s.t.run(run.id)).jobs).toMatchObject({ done: 1 });
    expect(await s.scratch()).toHaveLength(1);
    await s.t.state.rules.remove('removed', 1);
    expect(await s.clean()).toMatchObject({ scratch: { deleted: 1, failed: 0 } });
    expect(await s.scratch()).toEqual([]);
    // the place is forgotten in the end
    await s.t.clock.advance(15 * 24 * HOUR_MS);
    expect(await s.t.state.scratchPlaces.noteNamed([])).toEqual([]);
  });

  test('keeps the scratch repository of another deployment, whose rule and scheduled time have the same names', async () => {
    const s = await service('twin');
    const run = await s.pass();
    const [job] = await Array.fromAsync(s.t.state.runs.jobs(run.id, {}));
    const parsed = parseMessage(job?.body ?? '');
    assert(parsed.type === 'job');
    await s.worker.drain();
    await expectEnded(s.t, run.id, { done: 1 });
    const at = new Date(run.startedAtMs + 40).toISOString();
    const name = 'twin-scratch/transship-drill-3/going-on';
    const tags = { 'transship-drill': markOfDrill({ ...parsed.job, at }) };
    await lab.client(ecr).createRepository(name, { tags });
    expect(await s.clean()).toMatchObject({ scratch: { deleted: 1, failed: 0 } });
    expect(await s.scratch()).toEqual([name]);
    // the drill is over a week later
    await s.t.clock.advance(8 * 24 * HOUR_MS);
    expect(await s.clean()).toMatchObject({ scratch: { deleted: 1, failed: 0 } });
  });

  test('keeps the scratch repositories of a drill that is not over, and those without a mark', async () => {
    const s = await service('kept');
    const run = await s.pass();
    await s.worker.drain();
    await expectEnded(s.t, run.id, { done: 1 });
    const [made = ''] = await s.scratch();
    // a repository that a person made there, and the drill of another run that has not begun yet
    const next = await s.pass(1);
    const [open] = await Array.fromAsync(s.t.state.runs.jobs(next.id, {}));
    const parsed = parseMessage(open?.body ?? '');
    assert(parsed.type === 'job');
    const mark = markOfDrill(parsed.job);
    const client = lab.client(ecr);
    await client.createRepository('kept-scratch/mine', {});
    await client.createRepository('kept-scratch/transship-drill-0/unmarked', {});
    await client.createRepository('kept-scratch/transship-drill-1/going-on', { tags: { 'transship-drill': mark } });
    await client.createRepository('kept-scratch/transship-drill-2/by-hand', {
      tags: { 'transship-drill': 'command/0123' },
    });
    expect(await s.clean()).toMatchObject({ scratch: { deleted: 1, failed: 0 } });
    const left = await s.scratch();
    expect(left).toHaveLength(4);
    expect(left).not.toContain(made);
    await s.worker.drain();
    // the repositories that this run's drill created, and the one that had its mark
    expect(await s.clean()).toMatchObject({ scratch: { deleted: 2, failed: 0 } });
    expect(await s.scratch()).toHaveLength(3);
  });

  test('fails its job with what cannot be restored, and the age of its last good drill grows', async () => {
    const s = await service('broken');
    const good = await s.pass();
    await s.worker.drain();
    await expectEnded(s.t, good.id, { done: 1 });
    const image = await makeImage({ seed: 2, platforms: ['linux/amd64'], layers: [500] });
    const blobs = blobsOf(await walk(image.content, [image.root]));
    const layer = blobs.at(-1);
    assert(layer);
    await lab
      .session()
      .backends.bucket(bucket)
      .write(`broken/${blobPath(layer.digest)}`, Buffer.alloc(layer.size, 7));
    const failed = await s.pass(1);
    await s.worker.drain();
    await expectEnded(s.t, failed.id, { failed: 1 });
    const [job] = await Array.fromAsync(s.t.state.runs.jobs(failed.id, {}));
    expect(job?.code).toBe('CORRUPT');
    expect(job?.reason).toMatch(/^drill store:.*faulty: .*broken\/app:v2: it cannot be restored/);
    await s.pass(1);
    expect(s.events.filter(({ type }) => type === 'rule-age')).toEqual([
      { type: 'rule-age', rule: 'broken', what: 'drill', ageSeconds: 0, overdueSeconds: 0 },
      { type: 'rule-age', rule: 'broken', what: 'drill', ageSeconds: 3600, overdueSeconds: 0 },
      { type: 'rule-age', rule: 'broken', what: 'drill', ageSeconds: 7200, overdueSeconds: 3600 },
    ]);
    const shown = describeRules(await statusOfRules(s.t.state, { clock: s.t.clock }), s.t.clock.now());
    expect(shown).toMatch(/broken +verify .* restored 2h00m ago/);
  });
});

describe('a rule that drills', () => {
  const parse = (verify: string, more = ''): unknown =>
    parseConfig(`version: 1\nrules:\n  - { name: drill, schedule: '0 4 * * 0', verify: ${verify} }\n${more}`);

  test('is refused with a depth, over a registry, and without a prefix', () => {
    expect(() => parse("{ at: 'store:s3://bucket/p/', restoreTo: host.example/scratch, depth: bytes }")).toThrow(
      /expected no "depth"/,
    );
    expect(() => parse('{ at: host.example/app, restoreTo: host.example/scratch }')).toThrow(
      /a drill restores a store/,
    );
    expect(() => parse("{ at: 'store:s3://bucket/p/', restoreTo: host.example }")).toThrow(/names no prefix/);
  });

  test('is refused where another rule would copy its scratch repositories', () => {
    const host = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
    const drill = `{ at: 'store:s3://bucket/p/', restoreTo: ${host}/scratch }`;
    const backup = (from: string): string =>
      `  - { name: all, schedule: '0 4 * * *', backup: { from: ${from}, to: 'store:s3://bucket/p/' } }\n`;
    expect(() => parse(drill, backup(host))).toThrow(/rule "all" copies .* and would copy the scratch/);
    expect(() => parse(drill, backup(`'${host}/team/*'`))).not.toThrow();
  });

  test('cannot be requested by a message: only a rule names where drills write', () => {
    const message = {
      version: 1,
      kind: 'verify',
      from: 'store:s3://bucket/p/',
      restoreTo: 'docker://host.example/scratch',
    };
    expect(() => parseMessage(JSON.stringify(message))).toThrow(/restoreTo/);
  });
});
