import { Limit } from '../util/limit.ts';
import type { ObjectStore } from './objects.ts';

const MIB = 1024 * 1024;
/** Bytes of parts that are in memory at once: eight parts of 8 MiB. */
const PART_MEMORY_BYTES = 64 * MIB;
/** More parts at once make nothing faster, however small they are. */
const MOST_PARTS = 16;

const memoryOf = new WeakMap<ObjectStore, PartMemory>();

/** The memory for parts of everything that this process writes to `store` at once, made for parts of `partSize` bytes. */
export function partMemoryOf(store: ObjectStore, partSize: number): PartMemory {
  const memory = memoryOf.get(store) ?? PartMemory.for(partSize);
  memoryOf.set(store, memory);
  return memory;
}

/** A place for the bytes of one part. */
export interface PartBuffer {
  readonly bytes: Buffer;
  /** Makes the buffer free for other parts. Idempotent. */
  giveBack(): void;
}

/** The memory for parts of uploads that are being filled, held back or sent, over all uploads that share it. Buffers are used again. */
export class PartMemory {
  readonly #limit: Limit;
  readonly #idle: Buffer[] = [];
  #allocated = 0;

  /** Memory for parts of `partSize` bytes: 64 MiB, and at most 16 parts. */
  static for(partSize: number): PartMemory {
    return new PartMemory(Math.min(PART_MEMORY_BYTES, MOST_PARTS * partSize));
  }

  /** Memory of `capacity` bytes, none of which is allocated yet. */
  constructor(capacity: number) {
    this.#limit = new Limit(capacity);
  }

  /** A buffer of `size` bytes; undefined where there is no memory for it now. */
  tryTake(size: number): PartBuffer | undefined {
    const giveBack = this.#limit.tryTake(size);
    return giveBack === undefined ? undefined : this.#granted(size, giveBack);
  }

  /** A buffer of `size` bytes, even beyond the capacity. For parts that must not wait. */
  takeNow(size: number): PartBuffer {
    return this.#granted(size, this.#limit.takeNow(size));
  }

  #granted(size: number, giveBack: () => void): PartBuffer {
    const bytes = this.#find(size);
    let held = true;
    return {
      bytes,
      giveBack: () => {
        if (!held) return;
        held = false;
        this.#idle.push(bytes);
        giveBack();
      },
    };
  }

  /** A free buffer, or a new one in the place of free ones of other sizes. */
  #find(size: number): Buffer {
    const index = this.#idle.findLastIndex((buffer) => buffer.byteLength === size);
    const [found] = index === -1 ? [] : this.#idle.splice(index, 1);
    if (found !== undefined) return found;
    this.#allocated += size;
    while (this.#allocated > this.#limit.capacity) {
      const dropped = this.#idle.shift();
      if (dropped === undefined) break;
      this.#allocated -= dropped.byteLength;
    }
    return Buffer.allocUnsafeSlow(size);
  }
}
