import { expect, test } from 'vitest';
import { WholeBody } from '../../../../worker/registry/transport/whole-body.ts';
import { fakeLayer, READ } from '../../../support/fake-layer.ts';

test('reads a body up to its limit, and gives status, headers and URL with it', async () => {
  const inner = fakeLayer({ status: 201, body: '0123', headers: { etag: 'e' }, url: 'https://storage.example/layer' });
  const answer = await new WholeBody(inner).send({ ...READ, limit: 4 }, {});
  expect(answer.bytes.toString()).toBe('0123');
  expect([answer.status, answer.header('etag'), answer.url.host]).toEqual([201, 'e', 'storage.example']);
});

test('refuses a body that is longer', async () => {
  await expect(new WholeBody(fakeLayer({ body: '01234' })).send({ ...READ, limit: 4 }, {})).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: 'read it: the answer is longer than 4 bytes',
  });
});

test('fails as the body does', async () => {
  const inner = fakeLayer({ body: '01', breaks: true });
  await expect(new WholeBody(inner).send({ ...READ, limit: 4 }, {})).rejects.toThrow('the body broke off');
});
