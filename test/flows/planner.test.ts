import { DeleteObjectCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { callEcr } from '../support/call-ecr.ts';
import { addJson } from '../support/images.ts';
import { parseReference } from '../../worker/oci/reference.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { walk, type Root } from '../../worker/content/graph.ts';
import type { PushEvent } from '../../worker/queue/events.ts';
import type { Queue } from '../../worker/queue/queue.ts';
import type { Backends } from '../../worker/images/backends.ts';
import { status } from '../../worker/service/admin/status.ts';
import { planPushed } from '../../worker/service/planner/plan-pushed.ts';
import { planScheduled } from '../../worker/service/planner/plan-scheduled.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { gatherPush } from '../../worker/service/planner/push-event.ts';
import { stateOver } from '../../worker/state/store.ts';
import type { Table } from '../../worker/state/table.ts';
import { orAborted, type Abortable } from '../../worker/util/abort.ts';
import type { Service } from '../../worker/service/service.ts';
import { Failure } from '../../worker/util/failure.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, openLab, requestsDuring, type Lab } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { mortal, planner, type PlannerBench } from '../support/planner-bench.ts';
import { RawRegistry } from '../support/raw-registry.ts';
import { rule } from '../support/rules.ts';
import { expectSameImage } from '../support/same-image.ts';

const HOME = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
const ABROAD = '222222222222.dkr.ecr.eu-west-1.amazonaws.com';
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

let lab: Lab;

beforeAll(async () => {
  lab = await openLab();
});
afterAll(async () => lab[Symbol.asyncDispose]());

/** One platform, so that it is one manifest. */
async function makeOne(seed: number, tag = 'v1'): Promise<MadeImage> {
  return makeImage({ seed, tag, platforms: ['linux/amd64'], layers: [100], sharedLayerBytes: 0 });
}

/** Used by this test only. */
let names = 0;
function fresh(name: string): string {
  return `${name}-${++names}`;
}

interface Flow {
  readonly bench: PlannerBench;
  /** In `stack.ecr`. */
  readonly repository: string;
  readonly rule: CopyRule;
}

/** A rule that mirrors a repository of ECR with these tags to another ECR, and backs nothing up. */
async function mirrored(o: Partial<CopyRule> = {}, images: readonly string[] = ['v1']): Promise<Flow> {
  const bench = planner(lab.session());
  const repository = fresh('app');
  for (const [seed, tag] of images.entries()) await lab.push(await makeOne(seed, tag), lab.stack.ecr, repository);
  const mirroring = rule({ name: 'keep', from: [`${HOME}/${repository}`], to: [`${ABROAD}/{repository}`], ...o });
  await bench.apply(mirroring);
  return { bench, repository, rule: mirroring };
}

async function deleteImages(host: string, repository: string, ...imageTags: readonly string[]): Promise<void> {
  const registry = host === HOME ? lab.stack.ecr : lab.stack.otherEcr;
  const region = host === HOME ? 'us-east-1' : 'eu-west-1';
  await callEcr(registry.url, region, 'BatchDeleteImage', {
    repositoryName: repository,
    imageIds: imageTags.map((imageTag) => (imageTag.startsWith('sha') ? { imageDigest: imageTag } : { imageTag })),
  });
}

/** The images of the jobs in the queue, by tag. */
function queued(bench: PlannerBench): readonly string[] {
  return bench.jobs
    .filter((job) => job.kind !== 'settings')
    .map((job) =>
      job.kind === 'mirror' || job.kind === 'backup' ? parseReference(job.from.slice('docker://'.length)) : undefined,
    )
    .map((reference) => reference?.tag ?? reference?.digest ?? 'plan')
    .toSorted();
}

describe('a pass', () => {
  test('copies what is new, and nothing in the next pass', async () => {
    const { bench } = await mirrored({}, ['v1', 'v2']);
    expect(await bench.pass()).toEqual({ rules: 1, begun: 1, late: 0, failed: 0, incomplete: 0, resent: 0 });
    expect(queued(bench)).toEqual(['v1', 'v2']);
    expect(bench.of('run-planned')).toMatchObject([{ jobs: 2, unchanged: 0, continued: false }]);
    expect(await bench.work()).toHaveLength(2);
    expect(await bench.run('keep')).toMatchObject({ jobs: { done: 2, failed: 0 }, endedAtMs: expect.any(Number) });

    await bench.clock.advance(HOUR_MS);
    bench.forget();
    await bench.pass();
    expect(bench.jobs).toEqual([]);
    expect(bench.of('run-planned')).toMatchObject([{ jobs: 0, unchanged: 2 }]);
    expect(bench.of('run-ended')).toMatchObject([{ failed: 0 }]);
    expect(await bench.run('keep')).toMatchObject({ unchanged: 2, endedAtMs: expect.any(Number) });
  });

  test('copies an image whose tag looks like that of a list of referrers, and has nothing to copy after that', async () => {
    const tag = `sha256-${'c0ffee12'.repeat(8)}`;
    const { bench, repository } = await mirrored({}, ['v1', tag]);
    await bench.pass();
    expect(queued(bench)).toEqual([tag, 'v1']);
    await bench.work();
    expect(await lab.view(lab.stack.otherEcr, repository).resolve(tag)).toMatchObject({
      digest: (await lab.view(lab.stack.ecr, repository).resolve(tag)).digest,
    });
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(bench.jobs).toEqual([]);
  });

  test('does nothing between two scheduled times', async () => {
    const { bench } = await mirrored();
    await bench.pass();
    await bench.work();
    await bench.clock.advance(59 * MINUTE_MS);
    expect(await bench.pass()).toMatchObject({ begun: 0 });
    await bench.clock.advance(MINUTE_MS);
    expect(await bench.pass()).toMatchObject({ begun: 1 });
  });

  test('runs once for several scheduled times that were missed', async () => {
    const { bench } = await mirrored();
    await bench.pass();
    await bench.work();
    await bench.clock.advance(5 * HOUR_MS);
    expect(await bench.pass()).toMatchObject({ begun: 1 });
    expect(await bench.pass()).toMatchObject({ begun: 0 });
  });

  test('copies a tag that moved, and leaves the others', async () => {
    const { bench, repository } = await mirrored({}, ['v1', 'v2']);
    await bench.pass();
    await bench.work();
    await lab.push(await makeOne(100, 'v2'), lab.stack.ecr, repository);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(queued(bench)).toEqual(['v2']);
  });

  test.each(['v1', 'changed'])('copies again what is missing or changed at the destination (%s)', async (how) => {
    const { bench, repository } = await mirrored({}, ['v1', 'v2']);
    await bench.pass();
    await bench.work();
    if (how === 'v1') await deleteImages(ABROAD, repository, 'v1');
    else await lab.push(await makeOne(101, 'v1'), lab.stack.otherEcr, repository);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(queued(bench)).toEqual(['v1']);
    await bench.work();
    const there = await lab.view(lab.stack.otherEcr, repository).resolve('v1');
    expect(there.digest).toBe((await lab.view(lab.stack.ecr, repository).resolve('v1')).digest);
  });

  test('copies everything again when the repository is gone at the destination', async () => {
    const images = Array.from({ length: 20 }, (_, i) => `v${i}`);
    const { bench, repository } = await mirrored({ to: [`${HOME}/gone/{repository}`] }, images);
    await bench.pass();
    await bench.work();
    await lab.stack.deleteRepository(`gone/${repository}`);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(queued(bench)).toHaveLength(20);
  });

  test.each([3, 20])('writes missing archives again, of %d', async (count) => {
    const images = Array.from({ length: count }, (_, i) => `v${i}`);
    const { bench, repository } = await mirrored(
      { kind: 'backup', to: ['s3://transship-backups/{repository}/{tag}.tar'] },
      images,
    );
    await bench.pass();
    await bench.work();
    const client = clientOf(lab.stack.s3);
    await client.send(new DeleteObjectCommand({ Bucket: 'transship-backups', Key: `${repository}/v1.tar` }));
    client.destroy();
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(queued(bench)).toEqual(['v1']);
  });

  test('counts images as there that it cannot list at the destination, and reports that', async () => {
    const { bench, rule: mirroring } = await mirrored();
    await bench.pass();
    await bench.work();
    const backends = lab.session().backends;
    const target = backends.registry(ABROAD, 'target');
    const denied = async (): Promise<never> => {
      throw new Failure('DENIED', 'not authorized to look');
    };
    const blind = {
      ...backends,
      registry: (host: string, side: 'source' | 'target') =>
        side === 'source'
          ? backends.registry(host, side)
          : {
              ...target,
              images: target.images,
              repository: (name: string) => ({ ...target.repository(name), resolve: denied }),
            },
    };
    const { state } = bench;
    const run = await state.runs.begin({ id: 'by hand', rule: 'keep', trigger: 'request' });
    const events: unknown[] = [];
    const report = (event: unknown): void => void events.push(event);
    const result = await planScheduled({ rule: mirroring, run }, bench, blind, { clock: bench.clock, report });
    expect(result).toMatchObject({ jobs: 0, unchanged: 1 });
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'warning', message: expect.stringContaining('counts as it was left') }),
    );
  });
});

describe('the referrers of an image', () => {
  async function signedFlow(): Promise<Flow & { readonly made: MadeImage }> {
    const bench = planner(lab.session());
    const repository = fresh('signed');
    const made = await makeImage({ seed: 7, layers: [100], signed: true });
    await lab.push(made, lab.stack.ecr, repository);
    const keep = rule({ name: 'keep', from: [`${HOME}/${repository}`], to: [`${ABROAD}/{repository}`], onPush: true });
    await bench.apply(keep);
    await bench.pass();
    expect(queued(bench)).toEqual(['v1']);
    await bench.work();
    await bench.clock.advance(HOUR_MS);
    bench.forget();
    return { bench, repository, rule: keep, made };
  }

  /** A new signature of `subject`, pushed to the source. */
  async function sign(
    { made, repository }: { made: MadeImage; repository: string },
    which: 'image' | 'child',
  ): Promise<string> {
    const { content, root } = made;
    const index: { readonly manifests: readonly { readonly digest: string }[] } = JSON.parse(
      Buffer.concat(await Array.fromAsync(await content.open(root.descriptor))).toString(),
    );
    const child = await content.resolve(index.manifests[0]?.digest ?? '');
    const config = content.add('application/vnd.oci.empty.v1+json', Buffer.from('{}'));
    const signature = addJson(content, MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      artifactType: 'application/vnd.example.signature',
      config,
      layers: [config],
      subject: which === 'image' ? root.descriptor : child,
      annotations: { 'org.example.signer': `the ${which}'s` },
    });
    await lab.push(made, lab.stack.ecr, repository);
    return signature.digest;
  }

  test('are known after the first copy: nothing has to be copied', async () => {
    const { bench } = await signedFlow();
    await bench.pass();
    expect(bench.jobs).toEqual([]);
    expect(bench.of('run-planned')).toMatchObject([{ jobs: 0, unchanged: 1 }]);
  });

  test.each(['image', 'child'] as const)('are copied when they are new, of the %s', async (which) => {
    const flow = await signedFlow();
    const signature = await sign(flow, which);
    await flow.bench.pass();
    expect(queued(flow.bench)).toEqual(['v1']);
    await flow.bench.work();
    await lab.view(lab.stack.otherEcr, flow.repository).resolve(signature);
    await flow.bench.clock.advance(HOUR_MS);
    await flow.bench.pass();
    expect(flow.bench.jobs).toEqual([]);
  });

  test.each(['image', 'child'] as const)('are copied when their push is reported, of the %s', async (which) => {
    const flow = await signedFlow();
    const signature = await sign(flow, which);
    const { runs } = await flow.bench.push({ repository: flow.repository, digest: signature });
    expect(runs).toMatchObject([{ jobs: 1 }]);
    expect(queued(flow.bench)).toEqual(['v1']);
  });

  test('are noticed at a registry without a list, by the tags of cosign', async () => {
    const bench = planner(lab.session());
    const repository = fresh('signed');
    const { registry } = lab.stack;
    const made = await makeImage({ seed: 8, layers: [100] });
    await lab.push(made, registry, repository);
    await bench.apply(
      rule({ name: 'keep', from: [`${registry.registryHost}/${repository}`], to: [`${ABROAD}/{repository}`] }),
    );
    await bench.pass();
    await bench.work();
    const signed = await makeImage({ seed: 8, layers: [100], signed: true });
    await lab.push(signed, registry, repository);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(queued(bench)).toEqual(['v1']);
    await bench.work();
    await bench.clock.advance(HOUR_MS);
    const counts = await requestsDuring(registry, async () => bench.pass());
    expect(bench.jobs).toEqual([]);
    // the tag, and that of each child's signature
    expect(counts).toEqual({ 'tags-list': 1, 'manifest-head': 3 });
  });
});

/** A signed image that a rule mirrored, and its referrers. */
async function mirroredSigned(
  to: string,
): Promise<{ readonly bench: PlannerBench; readonly repository: string; readonly referrers: readonly Root[] }> {
  const bench = planner(lab.session());
  const repository = fresh('whole');
  const image = await makeImage({ seed: 21, layers: [100], signed: true });
  await lab.push(image, lab.stack.ecr, repository);
  await bench.apply(rule({ name: 'keep', from: [`${HOME}/${repository}`], to: [`${to}/{repository}`] }));
  await bench.pass();
  expect(await bench.work()).toHaveLength(1);
  return { bench, repository, referrers: (await walk(image.content, [image.root])).referrers };
}

describe('a signature or SBOM that is missing at a destination', () => {
  test.each(['a tag of cosign', 'an untagged manifest'])('is copied again in ECR: %s', async (kind) => {
    const { bench, repository, referrers } = await mirroredSigned(ABROAD);
    const lost = referrers.find(({ tags }) => tags.length > 0 === (kind === 'a tag of cosign'));
    assert(lost);
    const { digest } = lost.descriptor;
    await deleteImages(ABROAD, repository, digest);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(queued(bench)).toEqual(['v1']);
    await bench.work();
    expect(await lab.view(lab.stack.otherEcr, repository).resolve(digest)).toMatchObject({ digest });
    await bench.clock.advance(HOUR_MS);
    const counts = await requestsDuring(lab.stack.otherEcr, async () => bench.pass());
    expect([counts, bench.jobs]).toEqual([{ api: 1 }, []]);
  });

  test('is copied again in another registry, where its tag is not listed', async () => {
    const there = await lab.registry({ mode: 'oci' });
    const { bench, repository, referrers } = await mirroredSigned(there.registryHost);
    const [tag] = referrers.flatMap(({ tags }) => tags);
    assert(tag);
    await bench.clock.advance(HOUR_MS);
    expect(await requestsDuring(there, async () => bench.pass())).toEqual({ 'tags-list': 1 });
    await new RawRegistry(there.url).call('DELETE', `/v2/${repository}/manifests/${tag}`);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(queued(bench)).toEqual(['v1']);
    await bench.work();
    await lab.view(there, repository).resolve(tag);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(bench.jobs).toEqual([]);
  });

  test('is not copied in every run when the destination refused it', async () => {
    const bench = planner(lab.session());
    const repository = fresh('refused');
    const image = await makeOne(22);
    // ECR refuses media types with parameters
    addJson(image.content, MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      artifactType: 'application/vnd.example.sbom; version=1',
      config: image.content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
      layers: [image.content.add('text/plain', Buffer.from('sbom'))],
      subject: image.root.descriptor,
    });
    const { registry } = lab.stack;
    await lab.push(image, registry, repository);
    await bench.apply(
      rule({ name: 'keep', from: [`${registry.registryHost}/${repository}`], to: [`${ABROAD}/{repository}`] }),
    );
    await bench.pass();
    expect(await bench.work()).toHaveLength(1);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(bench.jobs).toEqual([]);
  });

  test('is not looked for where the rule does not copy it', async () => {
    const { bench, repository } = await mirrored({ referrers: false });
    await lab.push(await makeImage({ seed: 23, tag: 'v2', layers: [100], signed: true }), lab.stack.ecr, repository);
    await bench.pass();
    expect(await bench.work()).toHaveLength(2);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(bench.jobs).toEqual([]);
  });

  test('is not looked for where no manifests are remembered', async () => {
    const { bench, repository } = await mirrored();
    await bench.pass();
    expect(await bench.work()).toHaveLength(1);
    const record = await bench.state.destinations.get({ group: `docker://${ABROAD}/${repository}`, name: 'v1' });
    assert(record);
    await using lease = await bench.state.destinations.lock(record, 60);
    assert(lease);
    await bench.state.destinations.record({ ...record, manifests: undefined }, lease);
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(bench.jobs).toEqual([]);
  });
});

describe('sources', () => {
  test('are expanded by pattern, and a missing one fails alone', async () => {
    const bench = planner(lab.session());
    const team = fresh('team');
    for (const name of ['a', 'b']) await lab.push(await makeOne(1), lab.stack.ecr, `${team}/${name}`);
    const from = [`${HOME}/${team}/*`, `${HOME}/${team}/gone`];
    await bench.apply(rule({ name: 'keep', from, to: [`${ABROAD}/{repository}`] }));
    await bench.pass();
    expect(bench.of('rule-failed')).toMatchObject([
      { code: 'NOT_FOUND', message: expect.stringContaining(`${team}/gone`) },
    ]);
    expect((await bench.work()).map(({ from: image }) => image).toSorted()).toEqual([
      `docker://${HOME}/${team}/a:v1`,
      `docker://${HOME}/${team}/b:v1`,
    ]);
    expect(await bench.run('keep')).toMatchObject({ jobs: { done: 2, failed: 1 }, endedAtMs: expect.any(Number) });
    const progress = await bench.state.runs.progress('keep');
    expect(progress?.lastGoodRunAtMs).toBeUndefined();
  });

  test('are not asked repository by repository when their registry is unavailable', async () => {
    const bench = planner(lab.session());
    const from = Array.from({ length: 8 }, (_, i) => `${lab.stack.registry.registryHost}/away-${i}`);
    await bench.apply(rule({ name: 'keep', from, to: [`${ABROAD}/{repository}`] }));
    lab.stack.registry.faults.add({ operation: 'tags-list', times: 1000 }, { kind: 'answer', status: 503 });
    onTestFinished(() => lab.stack.registry.faults.clear());
    const counts = await requestsDuring(lab.stack.registry, async () => bench.pass());
    expect(counts['tags-list']).toBe(3 * 6);
    expect(await bench.run('keep')).toMatchObject({ jobs: { failed: 8 }, endedAtMs: expect.any(Number) });
  });

  test('include untagged images only when no other image lists them and they were not pushed just now', async () => {
    const bench = planner(lab.session());
    const repository = fresh('untagged');
    const index = await makeImage({ seed: 3, layers: [100] });
    await lab.push(index, lab.stack.ecr, repository);
    const old = await makeOne(4, 'moved');
    await lab.push(old, lab.stack.ecr, repository);
    await lab.push(await makeOne(5, 'moved'), lab.stack.ecr, repository);
    await bench.apply(
      rule({
        name: 'keep',
        from: [`${HOME}/${repository}`],
        to: [`${ABROAD}/{repository}`],
        tags: { include: [], exclude: [], untagged: true },
      }),
    );
    await bench.pass();
    expect(queued(bench)).toEqual(['moved', old.root.descriptor.digest, 'v1']);
    await bench.work();
    await bench.clock.advance(HOUR_MS);
    await bench.pass();
    expect(bench.jobs).toEqual([]);
  });
});

test('a registry that never answers holds up no other rule: a worker waits for it', async () => {
  const { bench, repository } = await mirrored({ name: 'z' });
  const silent = rule({ name: 'a', from: ['silent.example/app'], to: [`${ABROAD}/{repository}`] });
  await bench.apply(silent);
  const { backends } = lab.session();
  const asked = Promise.withResolvers<void>();
  const never = async function* (o?: Abortable): AsyncGenerator<string> {
    asked.resolve();
    await orAborted(new Promise<never>(() => undefined), o);
    yield '';
  };
  const registry: Backends['registry'] = (host, side) => {
    const there = backends.registry(host, side);
    if (host !== 'silent.example') return there;
    return { ...there, images: undefined, repository: () => ({ ...there.repository('app'), tags: never }) };
  };
  const passing = runPass(bench, { use: async (work) => work({ ...backends, registry }) }, { clock: bench.clock });
  await asked.promise;
  await bench.clock.advance(5 * MINUTE_MS);
  expect(await passing).toMatchObject({ begun: 2, failed: 0 });
  expect(bench.jobs).toMatchObject([
    { kind: 'plan', rule: 'a', after: { repository: '', name: '' } },
    { kind: 'mirror', from: `docker://${HOME}/${repository}:v1` },
  ]);
});

test('archived images are left out and reported', async () => {
  const { bench, repository } = await mirrored({}, ['v1', 'v2']);
  await callEcr(lab.stack.ecr.url, 'us-east-1', 'UpdateImageStorageClass', {
    repositoryName: repository,
    imageId: { imageTag: 'v2' },
    targetStorageClass: 'ARCHIVE',
  });
  await bench.pass();
  expect(queued(bench)).toEqual(['v1']);
  expect(bench.of('warning')).toMatchObject([{ message: expect.stringContaining('1 images are archived') }]);
});

describe('a run that continues', () => {
  test('is late at its next scheduled time, is not begun again, and is dead in the end', async () => {
    const { bench } = await mirrored();
    await bench.pass();
    const first = await bench.run('keep');
    await bench.clock.advance(HOUR_MS);
    expect(await bench.pass()).toMatchObject({ begun: 0, late: 1 });
    expect(bench.of('run-late')).toMatchObject([{ run: first.id, dead: false }]);
    expect((await bench.run('keep')).id).toBe(first.id);

    await bench.clock.advance(23 * HOUR_MS);
    bench.forget();
    expect(await bench.pass()).toMatchObject({ begun: 1, late: 0 });
    expect(bench.of('run-late')).toMatchObject([{ run: first.id, dead: true }]);
    expect((await bench.run('keep')).id).not.toBe(first.id);
    expect(await bench.state.runs.get(first.id)).toMatchObject({ dead: true });
  });

  test('frees its rule when its last job ends, though the worker crashed before it reported that', async () => {
    const { bench } = await mirrored();
    await bench.pass();
    const run = await bench.run('keep');
    // it marks the job as done and does nothing else
    const worker = mortal(bench, 1);
    const [job] = bench.jobs;
    assert(job);
    await expect(worker.service.state.runs.endJob(run.id, job.id, { state: 'done' })).rejects.toThrow('dead');
    expect(await bench.pass()).toMatchObject({ begun: 0 });
    expect(bench.of('run-ended')).toMatchObject([{ run: run.id, failed: 0 }]);
    await bench.clock.advance(HOUR_MS);
    expect(await bench.pass()).toMatchObject({ begun: 1, late: 0 });
  });
});

describe('a run of which only retries are left', () => {
  async function retrying(): Promise<{
    readonly bench: PlannerBench;
    readonly repository: string;
    readonly first: string;
    readonly tryAgain: () => Promise<number | undefined>;
  }> {
    const { bench, repository } = await mirrored();
    await bench.pass();
    const first = (await bench.run('keep')).id;
    const [job] = bench.jobs;
    const [delivery] = await bench.queue.receive(1, { waitSeconds: 0 });
    assert(job && delivery);
    const tryAgain = async (): Promise<number | undefined> => {
      const attempt = await bench.state.runs.startJob(first, job.id);
      const dueAtMs = bench.clock.now() + 15 * 60_000;
      await bench.state.runs.retryJob(first, job.id, { code: 'THROTTLED', reason: 'not now', dueAtMs });
      return attempt;
    };
    await tryAgain();
    await delivery.settle({ type: 'again', seconds: 2 * 3600 });
    await lab.push(await makeOne(1, 'v2'), lab.stack.ecr, repository);
    await bench.clock.advance(HOUR_MS);
    return { bench, repository, first, tryAgain };
  }

  test('does not keep the next run from the other images, and its image is in no second job', async () => {
    const { bench, first, tryAgain } = await retrying();
    expect(await bench.pass()).toMatchObject({ begun: 1, late: 0, failed: 0 });
    const second = await bench.run('keep');
    expect(second.id).not.toBe(first);
    expect(queued(bench)).toEqual(['v1', 'v2']);
    expect(second.jobs).toMatchObject({ waiting: 1, failed: 1 });
    const failed = await Array.fromAsync(bench.state.runs.jobs(second.id, { state: 'failed' }));
    expect(failed).toMatchObject([
      { code: 'THROTTLED', reason: `the run ${first} goes on trying after attempt 1: not now` },
    ]);
    await bench.work();
    expect(await bench.run('keep')).toMatchObject({ endedAtMs: expect.any(Number), jobs: { done: 1, failed: 1 } });
    expect(await tryAgain()).toBe(2);

    // with one attempt or several, at the next scheduled time and the one after it
    await bench.clock.advance(HOUR_MS);
    expect(await bench.pass()).toMatchObject({ begun: 1, late: 0 });
    expect((await bench.run('keep')).jobs).toMatchObject({ waiting: 0, failed: 1 });
    expect(await bench.state.runs.progress('keep')).toMatchObject({ lastGoodRunAtMs: undefined });
  });

  test('ends well when its job does, and the next run is a good one', async () => {
    const { bench, first } = await retrying();
    await bench.pass();
    const { startedAtMs } = await bench.run('keep');
    await bench.clock.advance(2 * HOUR_MS);
    await bench.work();
    expect(await bench.state.runs.get(first)).toMatchObject({ endedAtMs: expect.any(Number), jobs: { done: 1 } });
    // which does not count for the later run
    expect(await bench.state.runs.progress('keep')).toMatchObject({ lastFailedRunAtMs: startedAtMs });
    await bench.pass();
    expect(await bench.run('keep')).toMatchObject({ unchanged: 2, jobs: { failed: 0 } });
    const { lastGoodRunAtMs = 0 } = (await bench.state.runs.progress('keep')) ?? {};
    expect(lastGoodRunAtMs).toBeGreaterThan(startedAtMs);
  });

  test('is waited for until all its jobs have begun', async () => {
    const { bench, first } = await retrying();
    await bench.state.runs.addJobs(first, [{ id: 'another', title: 'another' }]);
    expect(await bench.pass()).toMatchObject({ begun: 0, late: 1 });
  });
});

test('a job whose message could not be sent is sent when the run is planned again, though nothing is left to copy by then', async () => {
  const { bench, repository, rule: keep } = await mirrored({}, ['v1', 'v2', 'v3']);
  const away: Queue = {
    name: 'away',
    receive: async () => [],
    count: async (o) => bench.queue.count(o),
    send: async () => Promise.reject(new Failure('UNAVAILABLE', 'send: the queue is away')),
  };
  const service = { state: bench.state, queue: away, deadLetters: bench.deadLetters };
  expect(await bench.pass({ service })).toMatchObject({ begun: 1, failed: 1 });
  expect((await bench.run('keep')).jobs.waiting).toBe(3);

  // a request by hand is faster, and a tag is gone
  const image = await makeOne(0, 'v1');
  await lab.push(image, lab.stack.otherEcr, repository);
  await bench.remember(keep, `docker://${ABROAD}/${repository}`, new Map([['v1', image.root.descriptor.digest]]));
  await deleteImages(HOME, repository, 'v2');
  await bench.pass();
  expect(queued(bench)).toEqual(['v1', 'v2', 'v3']);
  await bench.work({ copies: false });
  expect(await bench.run('keep')).toMatchObject({ endedAtMs: expect.any(Number), jobs: { done: 3, waiting: 0 } });
});

test('a run that the state has forgotten does not block its rule', async () => {
  const { bench } = await mirrored();
  await bench.pass();
  const table: Table = {
    ...bench.table,
    get: async (key, o) => (key.pk.includes('keep-20300101') ? undefined : bench.table.get(key, o)),
  };
  await bench.clock.advance(100 * 24 * HOUR_MS);
  const service = { state: stateOver(table, bench.clock), queue: bench.queue, deadLetters: bench.deadLetters };
  expect(await bench.pass({ service })).toMatchObject({ begun: 1, failed: 0 });
});

describe('two planners at once', () => {
  test('begin one run, and each job is sent once', async () => {
    const { bench } = await mirrored({}, ['v1', 'v2', 'v3']);
    const other = { state: stateOver(bench.table, bench.clock), queue: bench.queue, deadLetters: bench.deadLetters };
    const results = await Promise.all([bench.pass(), bench.pass({ service: other })]);
    expect(results.map(({ begun }) => begun).toSorted((a, b) => a - b)).toEqual([0, 1]);
    expect(queued(bench)).toEqual(['v1', 'v2', 'v3']);
    await bench.work();
    expect(await bench.run('keep')).toMatchObject({ jobs: { done: 3 }, endedAtMs: expect.any(Number) });
  });
});

describe('rules', () => {
  test('are reported as expired, and not planned', async () => {
    const { bench } = await mirrored({ expiresAtMs: Date.UTC(2029, 0, 1) });
    expect(await bench.pass()).toMatchObject({ begun: 0 });
    expect(bench.events).toEqual([{ type: 'rule-expired', rule: 'keep' }]);
  });

  test('do not stop the others when they cannot be read', async () => {
    const { bench } = await mirrored();
    await bench.state.rules.put({ name: 'a-broken-one', document: '{"kind":"teleport"}' }, 0);
    expect(await bench.pass()).toMatchObject({ rules: 2, begun: 1, failed: 1 });
    expect(bench.of('rule-failed')).toMatchObject([{ rule: 'a-broken-one', code: 'INVALID' }]);
  });

  test('are left to a Cleaner, without a warning, when they prune', async () => {
    const bench = planner(lab.session());
    await bench.apply({
      kind: 'prune',
      name: 'clean',
      at: [`${HOME}/*`],
      policies: [{ repositories: ['*'], untaggedAfterDays: 1 }],
      maxDeletes: 1000,
      dryRun: false,
      schedule: { cron: '0 * * * *', timeZone: 'UTC' },
      onPush: false,
    });
    expect(await bench.pass()).toMatchObject({ begun: 0, failed: 0 });
    expect(bench.of('warning')).toEqual([]);
    expect(await bench.state.runs.list()).toEqual([]);
  });

  test('report the size of each repository of ECR that a run lists', async () => {
    const { bench, repository } = await mirrored({}, ['v1', 'v2']);
    await bench.pass();
    const [listed] = bench.of('repository-listed');
    expect(listed).toMatchObject({ rule: 'keep', images: 2, repository: expect.stringContaining(`/${repository}`) });
    expect(listed?.bytes).toBeGreaterThan(0);
  });

  test('report the age of their last good copy', async () => {
    const { bench } = await mirrored();
    await bench.pass();
    expect(bench.of('rule-age')).toEqual([
      { type: 'rule-age', rule: 'keep', what: 'copy', ageSeconds: 0, overdueSeconds: 0 },
    ]);
    await bench.clock.advance(30 * MINUTE_MS);
    await bench.work();
    await bench.clock.advance(30 * MINUTE_MS);
    bench.forget();
    await bench.pass();
    // the age of what was there when the run began
    expect(bench.of('rule-age')).toEqual([
      { type: 'rule-age', rule: 'keep', what: 'copy', ageSeconds: 3600, overdueSeconds: 0 },
    ]);
    await bench.work();
    await bench.clock.advance(MINUTE_MS);
    bench.forget();
    await bench.pass();
    expect(bench.of('rule-age')).toEqual([
      { type: 'rule-age', rule: 'keep', what: 'copy', ageSeconds: 60, overdueSeconds: 0 },
    ]);
  });
});

describe('a push', () => {
  test('of a tag copies that image, and no other', async () => {
    const { bench, repository } = await mirrored({ onPush: true }, ['v1', 'v2']);
    const { digest } = await lab.view(lab.stack.ecr, repository).resolve('v2');
    const { runs } = await bench.push({ id: 'e1', repository, digest, tag: 'v2' });
    expect(runs).toMatchObject([{ run: 'push-e1-keep', jobs: 1, unchanged: 0 }]);
    expect(queued(bench)).toEqual(['v2']);
    await bench.work();
    expect(await bench.state.runs.get('push-e1-keep')).toMatchObject({
      trigger: 'push',
      endedAtMs: expect.any(Number),
    });
  });

  test('makes the same run and job when it is reported twice', async () => {
    const { bench, repository } = await mirrored({ onPush: true });
    const { digest } = await lab.view(lab.stack.ecr, repository).resolve('v1');
    for (let i = 0; i < 2; i++) await bench.push({ id: 'e1', repository, digest, tag: 'v1' });
    expect(bench.jobs).toHaveLength(1);
    await bench.work();
    await bench.push({ id: 'e1', repository, digest, tag: 'v1' });
    expect(bench.jobs).toEqual([]);
  });

  describe('of a signed image of two platforms', () => {
    const EVENTS = 9;
    /** The events of a push: children and a signature by digest, the tag, and the tag again, in this order. */
    async function events(): Promise<{
      readonly bench: PlannerBench;
      readonly drafts: readonly PushEvent[];
      readonly image: MadeImage;
      readonly repository: string;
    }> {
      const { bench, repository } = await mirrored({ onPush: true });
      const image = await makeImage({ seed: 9, layers: [100], tag: 'multi', signed: true });
      await lab.push(image, lab.stack.ecr, repository);
      const graph = await walk(image.content, [image.root], {});
      const digests = [...graph.manifests.keys()].filter((digest) => digest !== image.root.descriptor.digest);
      const common = { account: '111111111111', region: 'us-east-1', repository, at: '2030-01-01T00:00:00Z' };
      const drafts = Array.from({ length: EVENTS }, (_, i) => ({
        ...common,
        id: `event-${i}`,
        ...(i < EVENTS - 2
          ? { digest: digests[i % digests.length] ?? '' }
          : { digest: image.root.descriptor.digest, tag: 'multi' }),
      }));
      return { bench, drafts, image, repository };
    }

    test('is one run with one list of the repository, whose nine events arrive at once', async () => {
      const { bench, drafts, image, repository } = await events();
      const runs = await Promise.all(drafts.map(async (event) => gatherPush(event, bench, { clock: bench.clock })));
      expect(new Set(runs.flat()).size).toBe(1);
      expect(bench.queue.bodies).toHaveLength(1);
      expect(await bench.work()).toEqual([]);
      await bench.clock.advance(30_000);
      const counts = await requestsDuring(lab.stack.ecr, async () => bench.work({ copies: false }));
      expect(counts['api']).toBe(1);
      // its plan, and a copy for each tag: a child may belong to any of them
      expect(await bench.state.runs.list()).toMatchObject([
        { trigger: 'push', endedAtMs: expect.any(Number), jobs: { done: 3 } },
      ]);
      expect(
        await bench.state.destinations.get({ group: `docker://${ABROAD}/${repository}`, name: 'multi' }),
      ).toMatchObject({ digest: image.root.descriptor.digest });
    });

    test('is copied as pushed last within the window, and later pushes by a run of their own', async () => {
      const { bench, drafts, repository } = await events();
      const [first, ...more] = drafts.slice(0, 3);
      assert(first);
      const [run] = await gatherPush(first, bench, { clock: bench.clock });
      await bench.clock.advance(29_000);
      const moved = await makeOne(5, 'multi');
      await lab.push(moved, lab.stack.ecr, repository);
      const last = { ...first, id: 'last', tag: 'multi', digest: moved.root.descriptor.digest };
      expect(await gatherPush(last, bench, { clock: bench.clock })).toEqual([run]);
      await bench.clock.advance(1000);
      await bench.work();
      await expectSameImage(moved.content, lab.view(lab.stack.otherEcr, repository), moved.root);
      for (const late of more) expect(await gatherPush(late, bench, { clock: bench.clock })).not.toEqual([run]);
    });

    test('is planned by another run if its own run is planned before the push is in it', async () => {
      const { bench, drafts } = await events();
      const [first] = drafts;
      assert(first);
      for (const windowSeconds of [0, 30]) {
        const event = { ...first, id: `late-${windowSeconds}` };
        const own = `push-${event.id}-keep`;
        await bench.state.runs.begin({ id: own, rule: 'keep', trigger: 'push' });
        await bench.state.runs.closePushes(own);
        const [run = ''] = await gatherPush(event, bench, { clock: bench.clock, windowSeconds });
        expect(run).toMatch(new RegExp(`^${own}-`));
        expect(await bench.state.runs.closePushes(run)).toMatchObject([{ id: event.id }]);
        await bench.clock.advance(60_000);
      }
    });

    test('is planned with all gathered events, though the job that plans it could not be sent in time', async () => {
      const { bench, drafts } = await events();
      const [first, second, third] = drafts;
      assert(first && second && third);
      const broken: Service = {
        ...bench,
        queue: Object.assign(Object.create(bench.queue) as typeof bench.queue, {
          send: async () => Promise.reject(new Failure('UNAVAILABLE', 'the queue is away')),
        }),
      };
      await expect(gatherPush(first, broken, { clock: bench.clock })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      const [run = ''] = await gatherPush(second, bench, { clock: bench.clock });
      expect(bench.queue.bodies).toEqual([]);
      await bench.clock.advance(31_000);
      await gatherPush(third, bench, { clock: bench.clock });
      // its message is redelivered while another run gathers
      await gatherPush(first, bench, { clock: bench.clock });
      await bench.clock.advance(30_000);
      await bench.work();
      expect(await bench.state.runs.get(run)).toMatchObject({ endedAtMs: expect.any(Number) });
    });

    test('loses no event, wherever a worker is killed while it gathers or plans', async () => {
      let deaths = 0;
      for (let writes = 1; ; writes++) {
        const { bench, drafts, image, repository } = await events();
        const killed = mortal(bench, writes);
        const [, , , , , , , tagged, again] = drafts;
        assert(tagged && again);
        for (const event of [tagged, again])
          await gatherPush(event, killed.service, { clock: bench.clock }).catch(() => undefined);
        const hasDied = killed.dead;
        // both messages are redelivered
        for (const event of [again, tagged]) await gatherPush(event, bench, { clock: bench.clock });
        await bench.clock.advance(30_000);
        await bench.work();
        await expectSameImage(image.content, lab.view(lab.stack.otherEcr, repository), image.root);
        if (!hasDied) break;
        deaths++;
      }
      expect(deaths).toBeGreaterThan(5);
    });
  });

  test('of an image that is already copied needs no job', async () => {
    const { bench, repository } = await mirrored({ onPush: true });
    await bench.pass();
    await bench.work();
    const { digest } = await lab.view(lab.stack.ecr, repository).resolve('v1');
    const { runs } = await bench.push({ repository, digest, tag: 'v1' });
    expect(runs).toMatchObject([{ jobs: 0, unchanged: 1 }]);
    const found = await status(bench, { clock: bench.clock });
    expect(found.uneventfulPushes).toBe(1);
    expect(found.runs.map(({ trigger }) => trigger)).toEqual(['schedule']);
  });

  test('of a child of an index starts nothing: the index is pushed after it', async () => {
    const { bench, repository } = await mirrored({ onPush: true });
    const index = await makeImage({ seed: 9, layers: [100], tag: 'multi' });
    await lab.push(index, lab.stack.ecr, repository);
    const view = lab.view(lab.stack.ecr, repository);
    const children: { readonly manifests: readonly { readonly digest: string }[] } = JSON.parse(
      Buffer.concat(await Array.fromAsync(await view.open(index.root.descriptor))).toString(),
    );
    const { runs } = await bench.push({ repository, digest: children.manifests[0]?.digest ?? '' });
    expect(runs).toMatchObject([{ jobs: 0 }]);
  });

  test.each([
    ['the rule does not have on: push', {}],
    ['the rule is of another repository', { onPush: true, from: [`${HOME}/another`] }],
    ['the rule is of another account', { onPush: true, from: [`${ABROAD}/*`], to: [`${HOME}/{repository}`] }],
    ['the rule is expired', { onPush: true, expiresAtMs: Date.UTC(2029, 0, 1) }],
  ])('starts nothing where %s', async (_, change) => {
    const { bench, repository } = await mirrored(change);
    const { digest } = await lab.view(lab.stack.ecr, repository).resolve('v1');
    expect(await bench.push({ repository, digest, tag: 'v1' })).toEqual({ runs: [] });
  });

  test('is planned even while the list does not show it yet', async () => {
    const { bench, repository, rule: keep } = await mirrored({ onPush: true }, ['v1', 'v2']);
    const view = lab.view(lab.stack.ecr, repository);
    const { digest } = await view.resolve('v2');
    const { backends } = lab.session();
    const source = backends.registry(HOME, 'source');
    const lagging = {
      ...backends,
      registry: () => ({
        repository: (name: string) => source.repository(name),
        repositories: (prefix?: string) => source.repositories(prefix),
        settings: async () => undefined,
        hasRepository: async () => undefined,
        createRepository: async () => undefined,
        settingsChanges: async () => [],
        applySettings: async () => undefined,
        registrySettings: async () => undefined,
        registrySettingsChanges: async () => [],
        applyRegistrySettings: async () => undefined,
        images: async function* (name: string) {
          for await (const row of source.images?.(name) ?? []) if (row.digest !== digest) yield row;
        },
      }),
    };
    const plan = async (id: string, tag: string | undefined): Promise<unknown> => {
      const run = await bench.state.runs.begin({ id, rule: 'keep', trigger: 'push' });
      const request = { rule: keep, run, registry: HOME, repository, pushed: [{ tag, digest }] };
      return planPushed(request, bench, lagging, { clock: bench.clock });
    };
    expect(await plan('tagged', 'v2')).toMatchObject({ jobs: 1 });
    expect(queued(bench)).toEqual(['v2']);
    // only the list shows its subject
    await failureOf(plan('untagged', undefined), 'UNAVAILABLE');
  });

  test('is retried when another planner is planning its run', async () => {
    const { bench, repository } = await mirrored({ onPush: true });
    const { digest } = await lab.view(lab.stack.ecr, repository).resolve('v1');
    await using lease = await bench.state.lock('plan/push-e1-keep', 60);
    expect(lease).toBeDefined();
    await failureOf(bench.push({ id: 'e1', repository, digest, tag: 'v1' }), 'UNAVAILABLE');
  });

  test('of a repository that cannot be listed is incomplete', async () => {
    const { bench } = await mirrored({ from: [`${HOME}/${fresh('missing')}`] });
    expect(await bench.pass()).toMatchObject({ begun: 1, failed: 0, incomplete: 1 });
  });

  test('of a repository that cannot be listed for the moment is retried', async () => {
    const { bench, repository } = await mirrored({ onPush: true });
    const { digest } = await lab.view(lab.stack.ecr, repository).resolve('v1');
    lab.stack.ecr.faults.add({ operation: 'DescribeImages', times: 100 }, { kind: 'answer', status: 503 });
    onTestFinished(() => lab.stack.ecr.faults.clear());
    await failureOf(bench.push({ id: 'e1', repository, digest, tag: 'v1' }), 'UNAVAILABLE');
    lab.stack.ecr.faults.clear();
    // the failed attempt released its lease
    expect((await bench.push({ id: 'e1', repository, digest, tag: 'v1' })).runs).toMatchObject([{ jobs: 1 }]);
  });
});
