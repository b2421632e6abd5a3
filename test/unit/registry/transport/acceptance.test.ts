import { expect, test } from 'vitest';
import { Acceptance } from '../../../../worker/registry/transport/acceptance.ts';
import type { Layer } from '../../../../worker/registry/transport/layer.ts';
import { Origin } from '../../../../worker/registry/transport/origin.ts';
import { fakeClock } from '../../../support/clock.ts';
import { BASE, fakeLayer, READ } from '../../../support/fake-layer.ts';

function accepting(inner: Layer): Acceptance {
  return new Acceptance(inner, {
    origin: new Origin('registry.example', new URL(BASE)),
    clock: fakeClock(),
    hint: (code, operation) => `${code} of ${operation}`,
  });
}

test('passes on an answer that the request accepts, and leaves its body unread', async () => {
  const answer = await accepting(fakeLayer({ status: 404, body: 'not here' })).send({ ...READ, accept: [404] }, {});
  expect(await answer.text()).toBe('not here');
});

test('turns every other answer into a failure: the action, the status, the reason, and advice', async () => {
  const body = JSON.stringify({ errors: [{ code: 'DENIED', message: 'not for you' }] });
  await expect(accepting(fakeLayer({ status: 403, body })).send(READ, {})).rejects.toMatchObject({
    code: 'DENIED',
    message: 'read it: the registry answered 403 DENIED: not for you; DENIED of read-blob',
    context: { status: 403, registryCode: 'DENIED' },
  });
});

test('names storage that refuses, without a hint about the registry and without the query of its URL', async () => {
  const inner = fakeLayer({ status: 403, url: 'https://storage.example/layer?signature=secret' });
  await expect(accepting(inner).send(READ, {})).rejects.toMatchObject({
    message: 'read it: storage.example, where the registry sent us, answered 403',
  });
});

test('is UNAVAILABLE for a refusal that broke off before its reason', async () => {
  await expect(accepting(fakeLayer({ status: 404, breaks: true })).send(READ, {})).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'read it: the registry answered 404, and broke off before it gave the reason',
  });
});

test('a range that the blob does not have is final, though docker-registry breaks off its body', async () => {
  const inner = fakeLayer({ status: 416, breaks: true });
  await expect(accepting(inner).send(READ, {})).rejects.toMatchObject({ code: 'CORRUPT' });
});

test('reports that the credentials were renewed', async () => {
  const inner = fakeLayer({ status: 401 });
  const renewed: Layer = { send: async (...sent) => ({ ...(await inner.send(...sent)), renewed: true }) };
  await expect(accepting(renewed).send(READ, {})).rejects.toMatchObject({ context: { renewed: true } });
});
