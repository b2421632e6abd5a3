import { GetObjectCommand } from '@aws-sdk/client-s3';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { lentBodyOf } from '../../../../worker/objects/s3/lent-bodies.ts';
import { openS3 as openStore } from '../../../../worker/objects/s3/store.ts';
import { collect } from '../../../support/chunks.ts';
import { BUCKET, openS3, randomBytes, READ_AT_ONCE, type OpenS3 } from '../../../support/local-s3.ts';

const bytes = randomBytes(6 * 1024 * 1024);

async function open(): Promise<OpenS3> {
  const opened = await openS3();
  onTestFinished(() => opened[Symbol.asyncDispose]());
  return opened;
}

async function bodyOf({ client }: OpenS3, key: string): Promise<Readable> {
  const { Body: body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
  if (!(body instanceof Readable)) throw new Error('the SDK gave no stream');
  return body;
}

test('reads an object into few buffers, which are reused', async () => {
  const opened = await open();
  const store = openStore({ bucket: BUCKET, client: opened.client });
  await store.write('large', bytes);
  const buffers = new Set<ArrayBufferLike>();
  for await (const chunk of await store.read('large')) buffers.add(chunk.buffer);
  expect(buffers.size).toBeLessThanOrEqual(4);
  expect(
    (await collect(await store.read('large', { offset: 1_000_000, length: 2_000_000 }))).equals(
      bytes.subarray(1_000_000, 3_000_000),
    ),
  ).toBe(true);
});

test('can be read like any stream of the SDK, with its own chunks', async () => {
  const opened = await open();
  await openStore({ bucket: BUCKET, client: opened.client }).write('large', bytes);
  const body = await bodyOf(opened, 'large');
  expect(lentBodyOf(body)).toBeDefined();
  expect((await buffer(body)).equals(bytes)).toBe(true);
});

test('frees its place when it is destroyed: more bodies are read than at once', async () => {
  const opened = await open();
  await openStore({ bucket: BUCKET, client: opened.client }).write('large', bytes);
  for (let i = 0; i <= READ_AT_ONCE; i++) (await bodyOf(opened, 'large')).destroy();
});

test('finds keys that look like paths and queries', async () => {
  const { client } = await open();
  const store = openStore({ bucket: BUCKET, client });
  for (const key of ['a b/c+d', "it's (new)!*", 'x?y=1&z#f', 'ä/☃', 'a//b', 'a/./b']) {
    await store.write(key, Buffer.from(key));
    expect((await collect(await store.read(key))).toString()).toBe(key);
  }
});

test('ends when it is aborted while it is read', async () => {
  const { client } = await open();
  const store = openStore({ bucket: BUCKET, client });
  await store.write('large', bytes);
  const stop = new AbortController();
  const body = await store.read('large', { signal: stop.signal });
  const reading = (async () => {
    for await (const _ of body) stop.abort();
  })();
  await expect(reading).rejects.toMatchObject({ code: 'ABORTED' });
});
