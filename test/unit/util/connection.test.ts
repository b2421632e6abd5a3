import { connect } from 'node:net';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { connectionSentence } from '../../../worker/util/connection.ts';
import { calling } from '../../../worker/util/sdk-failure.ts';

/** The error of a connection to a port without a listener. */
async function refusedConnection(): Promise<unknown> {
  return once(connect(1, '127.0.0.1'), 'connect').catch((error: unknown) => error);
}

test('names the address that refused a connection', async () => {
  expect(connectionSentence(await refusedConnection(), 'AWS')).toBe('127.0.0.1:1 refused the connection');
});

test('reports the same for a service of AWS as for a registry', async () => {
  const call = calling('list RULES of table rules', 'dynamodb:Query', {}, async () => {
    throw await refusedConnection();
  });
  await expect(call).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'list RULES of table rules: 127.0.0.1:1 refused the connection',
  });
});

test.each([
  [{ code: 'ENOTFOUND', hostname: 'sqs.example' }, 'there is no host sqs.example'],
  [{ code: 'ECONNRESET' }, 'AWS closed the connection'],
  [{ code: 'UND_ERR_INFO' }, 'the connection to AWS broke'],
  [{ code: 'ENOBUFS' }, 'the connection to AWS broke (ENOBUFS)'],
  [new AggregateError([{ code: 'ECONNREFUSED', address: '::1', port: 80 }]), '[::1]:80 refused the connection'],
  [{ code: 'InvalidParameter' }, undefined],
  [undefined, undefined],
])('describes %j', (error, sentence) => {
  expect(connectionSentence(error, 'AWS')).toBe(sentence);
});
