import { vi } from 'vitest';

// for files with simulated time, which would pass while a thread works
vi.mock(import('node:zlib'), async (original) => {
  const real = await original();
  type Callback = (error: Error | null, bytes?: Buffer) => void;
  const sync =
    (work: (bytes: Buffer, options: object) => Buffer) =>
    (bytes: Buffer, ...rest: readonly [Callback] | readonly [object, Callback]): void => {
      const [options, callback] = rest.length === 1 ? [{}, rest[0]] : rest;
      callback(null, work(bytes, options));
    };
  return { ...real, zstdCompress: sync(real.zstdCompressSync), zstdDecompress: sync(real.zstdDecompressSync) } as never;
});
