import { expect, test } from 'vitest';
import { collect, nothing, once } from '../../../worker/content/bytes.ts';
import { Failure } from '../../../worker/util/failure.ts';

const tooLarge = (): Failure => new Failure('INVALID', 'too large');

test('once yields the bytes as one chunk, and no chunk where they are empty', async () => {
  expect(await Array.fromAsync(once(Buffer.from('ab')))).toEqual([Buffer.from('ab')]);
  expect(await Array.fromAsync(once(new Uint8Array()))).toEqual([]);
  expect(await Array.fromAsync(nothing())).toEqual([]);
});

test('collect joins the chunks of a body of exactly the limit', async () => {
  const body = async function* () {
    yield Buffer.from('ab');
    yield Buffer.from('c');
  };
  expect(await collect(body(), 3, tooLarge)).toEqual(Buffer.from('abc'));
});

test('collect stops reading a body at the first byte over the limit, and closes it', async () => {
  let closed = false;
  const endless = async function* () {
    try {
      for (;;) yield Buffer.from('ab');
    } finally {
      closed = true;
    }
  };
  await expect(collect(endless(), 3, tooLarge)).rejects.toThrow('too large');
  expect(closed).toBe(true);
});
