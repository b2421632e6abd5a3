import { expect, test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { KeptManifests } from '../../../worker/registry/kept-manifests.ts';

const digest = (n: number): ReturnType<typeof digestOf> => digestOf(Buffer.from(String(n)));

test('keeps what came last, in bounded memory, apart for each repository', () => {
  const kept = new KeptManifests(100);
  for (let i = 0; i < 5; i++) kept.keep('app', digest(i), Buffer.alloc(30, i));
  expect([0, 1, 2, 3, 4].map((i) => kept.get('app', digest(i))?.at(0))).toEqual([undefined, undefined, 2, 3, 4]);
  expect(kept.get('other', digest(4))).toBeUndefined();
});

test('what is kept twice counts once, and what is too large is not kept', () => {
  const kept = new KeptManifests(100);
  for (let i = 0; i < 9; i++) kept.keep('app', digest(1), Buffer.alloc(60));
  kept.keep('app', digest(2), Buffer.alloc(40));
  expect(kept.get('app', digest(1))).toHaveLength(60);
  expect(kept.get('app', digest(2))).toHaveLength(40);
  kept.keep('app', digest(3), Buffer.alloc(101));
  expect(kept.get('app', digest(3))).toBeUndefined();
  expect(kept.get('app', digest(2))).toHaveLength(40);
});
