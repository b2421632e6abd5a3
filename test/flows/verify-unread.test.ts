// Images that cannot be read while a place is verified: each is a finding, and the others are verified.
import assert from 'node:assert/strict';
import { afterAll, describe, expect, test } from 'vitest';
import { blobPath } from '../../worker/archive/plan.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { verifyPlace } from '../../worker/images/verify.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { formatRule } from '../../worker/rules/config.ts';
import { backedUpToArchives, backedUpToStore } from '../support/backed-up.ts';
import { makeImage } from '../support/images.ts';
import { failureOf, openLab } from '../support/lab.ts';
import { hourlyRule } from '../support/rules.ts';
import { planRun, testService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr, registry, s3 } = lab.stack;
const REFUSED = { kind: 'answer', status: 403, code: 'DENIED' } as const;

/** Pushes images v1 to v3; returns the root and a blob of v2. */
async function push(
  repository: string,
  where = ecr,
): Promise<{ readonly root: Descriptor; readonly blob: Descriptor }> {
  const made: { readonly root: Descriptor; readonly blob: Descriptor }[] = [];
  for (const seed of [1, 2, 3]) {
    const image = await makeImage({ seed, platforms: ['linux/amd64'], layers: [500] });
    await lab.push({ ...image, root: { ...image.root, tags: [`v${seed}`] } }, where, repository);
    const blob = blobsOf(await walk(image.content, [image.root])).at(-1);
    assert(blob);
    made.push({ root: image.root.descriptor, blob });
  }
  assert(made[1]);
  return made[1];
}

describe('verify of a place', () => {
  test('names the one image of a registry that it may not read, and reads the others', async () => {
    const { blob } = await push('unread/app', registry);
    const { backends, options } = lab.session();
    using _ = undoing(registry.faults.add({ operation: 'blob-get', digest: blob.digest, times: 50 }, REFUSED));
    const place = parsePlace(`${registry.registryHost}/unread/*`);
    const result = await verifyPlace({ place, depth: 'bytes' }, backends, options);
    expect(result.findings).toEqual([
      expect.objectContaining({ kind: 'unread', at: expect.stringMatching(/unread\/app:v2$/), code: 'DENIED' }),
    ]);
    expect(result).toMatchObject({ names: { checked: 2, of: 3 }, complete: false });
    expect(result.images).toHaveLength(2);
  });

  test('names the one archive that it may not read, and reads the others', async () => {
    await push('unread-archives/app');
    const to = `s3://${bucket}/unread-archives/`;
    await backedUpToArchives(`${ecr.registryHost}/unread-archives/*`, to, lab.session());
    const { backends, options } = lab.session();
    const objects = await Array.fromAsync(backends.bucket(bucket).list('unread-archives/'));
    const key = objects.map((one) => one.key).find((one) => one.endsWith('/v2.tar'));
    assert(key);
    using _ = undoing(s3.faults.add({ operation: 'GetObject', key, times: 50 }, { ...REFUSED, code: 'AccessDenied' }));
    const result = await verifyPlace({ place: parsePlace(to) }, backends, options);
    expect(result.findings).toEqual([
      expect.objectContaining({ kind: 'unread', at: `s3://${bucket}/${key}`, code: 'DENIED' }),
    ]);
    expect(result.images).toHaveLength(2);
    expect(result.complete).toBe(false);
  });

  test('names the one blob of a store that it may not read, and hashes the others', async () => {
    const { blob } = await push('unread-store/app');
    const to = `store:s3://${bucket}/unread-store/`;
    await backedUpToStore(`${ecr.registryHost}/unread-store/*`, to, lab.session());
    const { backends, options } = lab.session();
    const key = `unread-store/${blobPath(blob.digest)}`;
    using _ = undoing(s3.faults.add({ operation: 'GetObject', key, times: 50 }, { ...REFUSED, code: 'AccessDenied' }));
    const result = await verifyPlace({ place: parsePlace(to), depth: 'bytes' }, backends, options);
    expect(result.findings).toEqual([expect.objectContaining({ kind: 'unread', at: blob.digest, code: 'DENIED' })]);
    assert(result.blobs);
    expect(result.blobs.checked).toBe(result.blobs.of - 1);
    expect(result.complete).toBe(false);
  });

  test('fails where no image can be read: that proves nothing about the place', async () => {
    await push('unread-all/app', registry);
    const { backends, options } = lab.session();
    using _ = undoing(registry.faults.add({ operation: 'blob-get', times: 500 }, REFUSED));
    const place = parsePlace(`${registry.registryHost}/unread-all/*`);
    await failureOf(verifyPlace({ place, depth: 'bytes' }, backends, options), 'DENIED');
  });
});

test('a job whose only finding is an archive that it may not read fails with that code, not as corrupt', async () => {
  await push('unread-job/app');
  const to = `s3://${bucket}/unread-job/`;
  await backedUpToArchives(`${ecr.registryHost}/unread-job/*`, to, lab.session());
  const { backends } = lab.session();
  const objects = await Array.fromAsync(backends.bucket(bucket).list('unread-job/'));
  const key = objects.map((one) => one.key).find((one) => one.endsWith('/v2.tar'));
  assert(key);
  using _ = undoing(s3.faults.add({ operation: 'GetObject', key, times: 500 }, { ...REFUSED, code: 'AccessDenied' }));
  const t = testService();
  await t.state.rules.put({ name: 'unread', document: formatRule(hourlyRule('unread', `verify: { at: '${to}' }`)) }, 0);
  const run = await planRun(t, backends);
  await t.worker(backends).drain();
  const [job] = await Array.fromAsync(t.state.runs.jobs(run.id, {}));
  expect(job).toMatchObject({ state: 'failed', code: 'DENIED' });
  expect(job?.reason).toMatch(/unread: s3:.*v2\.tar: it could not be asked/);
});

function undoing(undo: () => void): Disposable {
  return { [Symbol.dispose]: undo };
}
