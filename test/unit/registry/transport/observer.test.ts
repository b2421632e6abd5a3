import { expect, test } from 'vitest';
import { Observer } from '../../../../worker/registry/transport/observer.ts';
import { Origin } from '../../../../worker/registry/transport/origin.ts';
import { BASE, fakeLayer, READ } from '../../../support/fake-layer.ts';

test('shows the answers of the registry, including refusals, and none of its storage', async () => {
  const seen: number[] = [];
  const inner = fakeLayer({ status: 200 }, { status: 429 }, { status: 201, url: 'https://storage.example/layer' });
  const origin = new Origin('registry.example', new URL(BASE));
  const layer = new Observer(inner, origin, ({ status }) => seen.push(status));
  const passed: number[] = [];
  for (let i = 0; i < 3; i++) passed.push((await layer.send(READ, {})).status);
  expect(passed).toEqual([200, 429, 201]);
  expect(seen).toEqual([200, 429]);
});
