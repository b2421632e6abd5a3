// The calls of the service to copy one small image, counted.
import { afterAll, expect, test } from 'vitest';
import { formatRule } from '../../worker/rules/config.ts';
import type { Backends } from '../../worker/images/backends.ts';
import { openLocation } from '../../worker/images/open-location.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import type { Table } from '../../worker/state/table.ts';
import { makeImage } from '../support/images.ts';
import { openLab, requestsDuring } from '../support/lab.ts';
import { rule } from '../support/rules.ts';
import { expectSameImage } from '../support/same-image.ts';
import { mirrorJob, planRun, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr, otherEcr } = lab.stack;

async function mirrored(name: string): Promise<{ readonly t: TestService; readonly backends: Backends }> {
  const t = testService();
  const { backends } = lab.session();
  const document = formatRule(
    rule({ name: 'mirror', from: [`${ecr.registryHost}/${name}`], to: [`${otherEcr.registryHost}/{repository}`] }),
  );
  await t.state.rules.put({ name: 'mirror', document }, 0);
  return { t, backends };
}

/** The table, with a count of its calls. */
function counted(table: Table): { readonly table: Table; readonly calls: string[] } {
  const calls: string[] = [];
  const wrapped: Table = {
    get: async (key, options) => (calls.push(`get ${key.sk}`), table.get(key, options)),
    getEach: async (keys, options) => (calls.push('getEach'), table.getEach(keys, options)),
    update: async (key, change, expected, options) => {
      calls.push(`update ${key.sk}`);
      return table.update(key, change, expected, options);
    },
    updateAll: async (changes, options) => (calls.push('updateAll'), table.updateAll(changes, options)),
    query: (pk, options) => (calls.push(`query ${pk}`), table.query(pk, options)),
  };
  return { table: wrapped, calls };
}

test('a new image costs six calls to the table, and none to look for signatures in a repository without signatures', async () => {
  const image = await makeImage({ seed: 9701, platforms: ['linux/amd64'], layers: [1000] });
  await lab.push(image, ecr, 'tiny/app');
  const { t, backends } = await mirrored('tiny/app');
  await planRun(t, backends, { hours: 1 });
  const { table, calls } = counted(t.table);
  const worker = t.worker(backends, { table });
  // the access to registries is read now and then, and the run ends with this job
  let to: Awaited<ReturnType<typeof requestsDuring>> = {};
  const counts = await requestsDuring(ecr, async () => {
    to = await requestsDuring(otherEcr, async () => worker.drain());
  });
  const perJob = calls.filter(
    (call) => !/^(?:get ACCESS|query RUN|get RUN|update PROGRESS|update RUN#|get PROGRESS)/.test(call),
  );
  expect(perJob).toEqual([
    expect.stringMatching(/^update JOB#/),
    'update v1',
    'getEach',
    'update v1',
    expect.stringMatching(/^update JOB#/),
    // the count of the run, its end, and its place in the lists
    'update RUN',
    'update RUN',
    'update RUN',
  ]);
  expect(counts).not.toHaveProperty('referrers-list');
  // the manifest is read by its tag; the target is asked for its digest only, and not why the digest is missing
  expect(counts).toMatchObject({ 'manifest-get': 1 });
  expect(counts).not.toHaveProperty('manifest-head');
  expect(to).toMatchObject({ 'manifest-head': 1, 'manifest-put': 1 });
  expect(to).not.toHaveProperty('DescribeImages');
  await expectSameImage(image.content, lab.view(otherEcr, 'tiny/app'), image.root);
});

test('a signature that is made after its image was planned is copied by the next run', async () => {
  const recipe = { seed: 9702, platforms: ['linux/amd64'], layers: [1000] } as const;
  const [plain, signed] = [await makeImage(recipe), await makeImage({ ...recipe, signed: true })];
  expect(signed.root.descriptor.digest).toBe(plain.root.descriptor.digest);
  await lab.push(plain, ecr, 'late/app');
  const { t, backends } = await mirrored('late/app');
  await planRun(t, backends, { hours: 1 });
  await lab.push(signed, ecr, 'late/app');
  await t.worker(backends).drain();
  await planRun(t, backends, { hours: 1 });
  await t.worker(backends).drain();
  await expectSameImage(signed.content, lab.view(otherEcr, 'late/app'), signed.root);
  expect(await Array.fromAsync(lab.view(otherEcr, 'late/app').referrers(signed.root.descriptor))).not.toEqual([]);
});

test('a job that waited while another one copied a new signature does not remove it', async () => {
  const recipe = { seed: 9703, platforms: ['linux/amd64'], layers: [1000] } as const;
  const [plain, signed] = [await makeImage(recipe), await makeImage({ ...recipe, signed: true })];
  await lab.push(plain, ecr, 'overtaken/app');
  const t = testService();
  const session = lab.session();
  const { backends, options } = session;
  const archive = `s3://${bucket}/overtaken/app.tar`;
  const document = formatRule(
    rule({ name: 'keep', from: [`${ecr.registryHost}/overtaken/app`], to: [archive], settings: false }),
  );
  await t.state.rules.put({ name: 'keep', document }, 0);
  await planRun(t, backends, { hours: 1 });
  const [waiting] = await t.queue.receive(1, { waitSeconds: 0, visibilitySeconds: 3600 });
  await lab.push(signed, ecr, 'overtaken/app');
  await t.clock.advance(1000);
  const { from, to } = { from: `docker://${ecr.registryHost}/overtaken/app:v1`, to: archive };
  await t.enqueue({ ...mirrorJob(from, to), kind: 'backup', rule: 'keep' });
  const worker = t.worker(backends);
  await worker.next();
  await waiting?.settle({ type: 'again', seconds: 0 });
  await worker.drain();
  await using kept = await openLocation(backends, parseLocation(archive), 'source', options);
  await expectSameImage(signed.content, kept.source, signed.root);
  expect(await Array.fromAsync(kept.source.referrers(signed.root.descriptor))).not.toEqual([]);
});
