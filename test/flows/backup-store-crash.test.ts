import assert from 'node:assert/strict';
import { afterAll, expect, test } from 'vitest';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { openStore } from '../../worker/images/open-place.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { MemoryObjects } from '../support/memory-objects.ts';
import { replaceBackends } from '../support/backends.ts';
import { workClock } from '../support/clock.ts';
import { crashed } from '../support/crash.ts';
import { crashing } from '../support/faulty-objects.ts';
import { openLab } from '../support/lab.ts';
import { stockRegistry } from '../support/stocked-registry.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());

const PLACE = { bucket: 'stored', prefix: 'x/' };
let runs = 0;

test('a backup into a store that is killed at any write ends as an uninterrupted one, and sends nothing twice', async () => {
  const { registry } = lab.stack;
  await stockRegistry(lab, registry, { repositories: 3, tags: 1, baseBytes: 300, ownBytes: 100 });
  const { backends, options } = lab.session();
  const life = async (store: ObjectStore): ReturnType<typeof backupToStore> => {
    const clock = workClock({ startMs: Date.UTC(2026, 0, 1, 0, runs++) });
    const request = {
      from: `${registry.registryHost}/*`,
      to: `store:s3://${PLACE.bucket}/${PLACE.prefix}`,
      tool: 'test',
    };
    return backupToStore(request, replaceBackends(backends, { bucket: () => store }), { ...options, clock });
  };
  const whole = crashing(new MemoryObjects(), Infinity);
  const expected = await life(whole.store);
  const points = whole.writes();
  assert.ok(points > 60, `${points} points`);
  // every write once, with a stride that shares no factor with the two points of a write
  for (let at = 1; at <= points; at += 7) {
    const objects = new MemoryObjects();
    const dying = crashing(objects, at);
    assert.ok(await crashed(life(dying.store)), `it was not killed at ${at}`);
    const left = new Set<string>();
    for await (const { key } of objects.list('x/blobs/')) left.add(key.replace('x/blobs/sha256/', 'sha256:'));
    const result = await life(objects);
    expect(result.failures, `killed at ${at}`).toEqual([]);
    expect(result.bytes).toBe(expected.bytes);
    const store = await openStore(PLACE, replaceBackends(backends, { bucket: () => objects }), options);
    const { snapshot } = await store.snapshots.read('latest');
    const there = await store.blobs();
    for (const { digest, size } of snapshot.content) expect(there.get(digest)).toBe(size);
    const missing = snapshot.content.filter(({ digest }) => !left.has(digest));
    expect(result.added.bytes, `killed at ${at}`).toBe(missing.reduce((sum, { size }) => sum + size, 0));
  }
});
