/** Large enough that a call for each costs little beside its bytes, and small enough that two of them stay in the cache of a core. */
export const BUFFER_BYTES = 256 * 1024;

/** Buffers that are free and kept: 8 MiB. */
const MAX_FREE = 32;
const free: Buffer[] = [];

/** A buffer of BUFFER_BYTES that holds anything: the one that was given back last, whose pages the kernel has handed out already. */
export function takeBuffer(): Buffer {
  return free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
}

/** The caller does not touch the buffer again: it may be filled with the next body. */
export function giveBackBuffer(buffer: Buffer): void {
  if (free.length < MAX_FREE) free.push(buffer);
}
