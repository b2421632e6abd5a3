import { describe, expect, test } from 'vitest';
import { PartMemory } from '../../../worker/objects/part-memory.ts';
import { PartsInFlight } from '../../../worker/objects/parts-in-flight.ts';
import { Failure } from '../../../worker/util/failure.ts';

const MIB = 1024 * 1024;

describe('the memory for parts', () => {
  test('is 64 MiB, or 16 parts if those are less', () => {
    const count = (memory: PartMemory, size: number): number => {
      let found = 0;
      while (memory.tryTake(size) !== undefined) found++;
      return found;
    };
    expect(count(PartMemory.for(8 * MIB), 8 * MIB)).toBe(8);
    expect(count(PartMemory.for(MIB), MIB)).toBe(16);
    expect(count(PartMemory.for(1000 * MIB), 1000 * MIB)).toBe(1);
  });

  test('hands out returned buffers, once each', () => {
    const memory = new PartMemory(200);
    const first = memory.takeNow(100);
    first.giveBack();
    first.giveBack();
    expect(memory.tryTake(100)?.bytes).toBe(first.bytes);
    expect(memory.tryTake(100)?.bytes).not.toBe(first.bytes);
    expect(memory.tryTake(100)).toBeUndefined();
  });

  test('is exceeded only by work that must not wait, and then hands out nothing until that is returned', () => {
    const memory = new PartMemory(100);
    const held = [memory.takeNow(100), memory.takeNow(100)];
    held[0]?.giveBack();
    expect(memory.tryTake(100)).toBeUndefined();
    held[1]?.giveBack();
    expect(memory.tryTake(100)).toBeDefined();
  });

  test('drops free buffers for one of another size', () => {
    const memory = new PartMemory(100);
    const small = memory.takeNow(60);
    small.giveBack();
    memory.takeNow(100).giveBack();
    expect(memory.takeNow(60).bytes).not.toBe(small.bytes);
  });
});

describe('parts in flight', () => {
  test('wait for memory only while one of them is being sent', async () => {
    const memory = new PartMemory(1);
    const others = memory.takeNow(10);
    const parts = new PartsInFlight(memory);
    const sent = Promise.withResolvers<void>();
    parts.launch(await parts.buffer(10), async () => sent.promise);
    const next = parts.buffer(10);
    sent.resolve();
    parts.launch(await next, async () => undefined);
    await parts.stored();
    others.giveBack();
  });

  test('release their memory when one fails, and fail with the first failure', async () => {
    const memory = new PartMemory(30);
    const parts = new PartsInFlight(memory);
    const slow = Promise.withResolvers<void>();
    parts.launch(await parts.buffer(10), async () => slow.promise);
    parts.launch(await parts.buffer(10), async () => Promise.reject(new Failure('DENIED', 'first')));
    parts.launch(await parts.buffer(10), async () => Promise.reject(new Failure('UNAVAILABLE', 'second')));
    await expect(parts.buffer(10)).rejects.toMatchObject({ message: 'first' });
    const stored = parts.stored();
    slow.resolve();
    await expect(stored).rejects.toMatchObject({ message: 'first' });
    expect(memory.tryTake(30)).toBeDefined();
  });
});
