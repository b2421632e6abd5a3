import type { Bytes } from '../content/content.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { paddingOf, scanTar, type ReadAt } from './tar.ts';

/** A folder that exists until it is disposed. */
export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
  /** How many bytes can be written there. Absent: not known. */
  readonly freeBytes?: number | undefined;
}

/** What an archive may unpack to. */
export interface UnpackLimit {
  readonly bytes: number;
  /** Thrown for an archive that is larger; its message calls the archive `it`. */
  readonly exceeded: Failure;
}

const DEFAULT_MAX_BYTES = 256 * 1024 ** 3;
/** Layers are compressed already, or are programs and text, which do not compress so well. */
const MAX_RATIO = 100;
/** Small archives may hold one large file of zeros. */
const ALWAYS_ALLOWED_BYTES = 1024 ** 3;

/** The lowest of the bounds on what `packedBytes` may unpack to, in a folder where one is used: `maxBytes`, the ratio, and the space that is free. */
export function unpackLimit(
  packedBytes: number,
  { path, freeBytes = Infinity }: Pick<TemporaryFolder, 'path' | 'freeBytes'> = { path: '' },
  maxBytes = DEFAULT_MAX_BYTES,
): UnpackLimit {
  const ratioBytes = Math.max(packedBytes * MAX_RATIO, ALWAYS_ALLOWED_BYTES);
  const bytes = Math.min(maxBytes, ratioBytes, freeBytes);
  const [code, than] =
    bytes === freeBytes
      ? ([
          'UNSUPPORTED',
          `the ${bytes} bytes that are free in ${path}: free some, or choose another folder with TMPDIR`,
        ] as const)
      : bytes === ratioBytes
        ? ([
            'INVALID',
            `the ${bytes} bytes that ${packedBytes} compressed ones may stand for: if you trust it, unpack it first`,
          ] as const)
        : (['INVALID', `the ${bytes} bytes that are allowed`] as const);
  return { bytes, exceeded: new Failure(code, `it unpacks to more than ${than}`) };
}

/**
 * The bytes of `tar` as they come, looked at before they are passed on: INVALID for what does not begin as a tar with a file, and
 * `limit.exceeded` as soon as a header announces more than the limit, or more has come. Other faults of the tar are left to its reader.
 */
export async function* lookedAt(tar: Bytes, limit: UnpackLimit): Bytes {
  const chunks = tar[Symbol.asyncIterator]();
  let held: Uint8Array = new Uint8Array();
  let passed = 0;
  let ended = false;
  const pull = async (): Promise<boolean> => {
    // asking for the next chunk gives this one back
    if (held.byteLength > 0) held = Uint8Array.from(held);
    const next = await chunks.next();
    ended = next.done === true;
    if (next.done === true) return false;
    if (passed + held.byteLength + next.value.byteLength > limit.bytes) throw limit.exceeded;
    held = held.byteLength === 0 ? next.value : Buffer.concat([held, next.value]);
    return true;
  };
  const readAt: ReadAt = async (offset, length) => {
    while (passed + held.byteLength < offset + length)
      if (!(await pull())) throw new Failure('CORRUPT', 'the tar is cut off in a header');
    return held.subarray(offset - passed, offset - passed + length);
  };
  const passOn = async function* (to: number): Bytes {
    while (passed < to && (held.byteLength > 0 || (await pull()))) {
      const some = held.subarray(0, to - passed);
      held = held.subarray(some.byteLength);
      passed += some.byteLength;
      yield some;
    }
  };
  try {
    const entries = scanTar(readAt, Number.MAX_SAFE_INTEGER);
    for (;;) {
      const next = await entries.next().catch((error: unknown) => {
        if (!isFailure(error) || error === limit.exceeded || (passed === 0 && !ended)) throw error;
        return undefined;
      });
      if (next === undefined) break;
      if (next.done === true) {
        if (passed === 0) throw new Failure('INVALID', 'it is a tar without a file, not an archive of an image');
        break;
      }
      const { offset, size } = next.value;
      if (offset + size > limit.bytes) throw limit.exceeded;
      yield* passOn(offset + size + paddingOf(size));
    }
    yield* passOn(Infinity);
  } finally {
    await chunks.return?.();
  }
}
