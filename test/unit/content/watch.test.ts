import { expect, test } from 'vitest';
import type { Bytes } from '../../../worker/content/content.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { paced } from '../../../worker/content/paced.ts';
import { read } from '../../../worker/content/read.ts';
import { watched, type BodyWatcher } from '../../../worker/content/watch.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { collect } from '../../support/chunks.ts';
import { rechunked } from '../../support/faulty-content.ts';

const BYTES = Buffer.from('0123456789');
const broken = new Failure('DENIED', 'no');

const plain = async function* (failure?: Failure): Bytes {
  yield BYTES.subarray(0, 6);
  if (failure !== undefined) throw failure;
  yield BYTES.subarray(6);
};
const verified = (): Bytes => {
  const content = new MemoryContent();
  return read(rechunked(content, 6), content.add('text/plain', BYTES));
};

/** Records what it receives. */
function noting(name = ''): { readonly told: string[]; readonly watcher: BodyWatcher } {
  const told: string[] = [];
  const watcher: BodyWatcher = {
    taken: (bytes) => void told.push(`${name}${bytes}`),
    failed: (error) => {
      told.push(`${name}failed`);
      return new Failure('UNAVAILABLE', `${name}${(error as Failure).message}`);
    },
    ended: () => void told.push(`${name}ended`),
  };
  return { told, watcher };
}

test.each([
  ['a generator', plain],
  ['a verified body', verified],
])('%s reports what is read from it and that it ended, once', async (_, make) => {
  const { told, watcher } = noting();
  expect(await collect(watched(make(), watcher))).toEqual(BYTES);
  expect(told).toEqual(['6', '4', 'ended']);
});

test('a body that watches itself stays the same body', () => {
  const body = verified();
  expect(watched(body, noting().watcher)).toBe(body);
  const wrapped = watched(plain(), noting().watcher);
  expect(watched(wrapped, noting().watcher)).toBe(wrapped);
});

test('each watcher sees the failure that the previous watcher threw', async () => {
  const { told, watcher } = noting('a: ');
  const body = watched(watched(plain(broken), watcher), noting('b: ').watcher);
  await expect(collect(body)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: 'b: a: no' });
  expect(told).toEqual(['a: 6', 'a: failed', 'a: ended']);
  expect(await collect(body)).toHaveLength(0);
});

test.each([
  ['a generator', plain],
  ['a verified body', verified],
])('%s that is abandoned has ended', async (_, make) => {
  const { told, watcher } = noting();
  for await (const chunk of watched(make(), watcher)) {
    expect(chunk).toHaveLength(6);
    break;
  }
  expect(told).toEqual(['6', 'ended']);
});

test('progress is reported at most ten times a second, and the rest at the end', async () => {
  let nowMs = 0;
  const reported: number[] = [];
  const watcher = paced((bytes) => reported.push(bytes), { now: () => nowMs });
  const body = async function* (): Bytes {
    for (let i = 0; i < 25; i++) {
      yield BYTES;
      nowMs += 40;
    }
  };
  await collect(watched(body(), watcher));
  // the first at once, then the bytes of three chunks, and the last
  expect(reported).toEqual([10, 30, 30, 30, 30, 30, 30, 30, 30]);
});

test('progress of a body that fails is reported up to the failure', async () => {
  const reported: number[] = [];
  const body = async function* (): Bytes {
    yield BYTES;
    yield BYTES;
    throw broken;
  };
  const watcher = paced((bytes) => reported.push(bytes), { now: () => 0 });
  await expect(collect(watched(body(), watcher))).rejects.toBe(broken);
  expect(reported).toEqual([10, 10]);
});
