import type { InPlace, ObjectStore, Upload } from '../../worker/objects/objects.ts';
import { CrashPoints } from './crash.ts';

interface CrashingStore {
  readonly store: ObjectStore;
  /** Points so far at which it could have crashed. */
  writes(): number;
  /** Bytes passed to `part` and `write` of the wrapped store. */
  bytesSent(): number;
}

/**
 * `store` as a process sees it that is killed at the write number `crashAt` (counted from 1; Infinity: never), or at one of points that it
 * shares with others. Each upload, part, commit, write, stream and abort is two points: before it takes effect, and after it did but before
 * the caller learns of it. From then on every call throws Crash, so that nothing happens that the killed process could not have done, unless
 * `onCrash` ends the process itself.
 */
export function crashing(store: ObjectStore, crashAt: number | CrashPoints, onCrash?: () => void): CrashingStore {
  const points = typeof crashAt === 'number' ? new CrashPoints(crashAt, onCrash) : crashAt;
  let sent = 0;
  const write = async <T>(work: () => Promise<T>, bytes = 0): Promise<T> => {
    points.point();
    sent += bytes;
    const result = await work();
    points.point();
    return result;
  };
  const read = async <T>(work: () => Promise<T>): Promise<T> => {
    points.alive();
    const result = await work();
    points.alive();
    return result;
  };
  const wrapped: ObjectStore = {
    ...(store.rangesAtOnce === undefined ? {} : { rangesAtOnce: store.rangesAtOnce }),
    describe: (key) => store.describe(key),
    stat: async (key, options) => read(async () => store.stat(key, options)),
    read: async (key, options) => read(async () => store.read(key, options)),
    list: async function* (prefix, options) {
      points.alive();
      for await (const info of store.list(prefix, options)) {
        yield info;
        points.alive();
      }
    },
    write: async (key, body, options) => write(async () => store.write(key, body, options), body.byteLength),
    stream: async (key, body, options) => write(async () => store.stream(key, body, options)),
    upload: async (key, size, options) => wrapUpload(await write(async () => store.upload(key, size, options)), write),
  };
  return { store: wrapped, writes: () => points.count, bytesSent: () => sent };
}

type Write = <T>(work: () => Promise<T>, bytes?: number) => Promise<T>;

function wrapUpload(upload: Upload, write: Write): Upload {
  const openInPlace = upload.openInPlace?.bind(upload);
  return {
    ...(openInPlace === undefined
      ? {}
      : { openInPlace: async (options) => wrapInPlace(await openInPlace(options), write) }),
    partSize: upload.partSize,
    parts: upload.parts,
    get done() {
      return upload.done;
    },
    holds: (n, bytes, crc) => upload.holds(n, bytes, crc),
    part: async (n, bytes, options) => write(async () => upload.part(n, bytes, options), bytes.byteLength),
    copyPart: async (n, bytes, from, options) =>
      write(async () => (await upload.copyPart?.(n, bytes, from, options)) === true),
    commit: async (options) => write(async () => upload.commit(options)),
    abort: async () => write(async () => upload.abort()),
    // a killed process holds nothing
    release: () => upload.release?.(),
  };
}

function wrapInPlace(file: InPlace, write: Write): InPlace {
  return {
    isPublished: file.isPublished,
    isResumed: file.isResumed,
    write: async (offset, bytes, options) => write(async () => file.write(offset, bytes, options), bytes.byteLength),
    has: async (offset, bytes, options) => file.has(offset, bytes, options),
    read: (offset, length, options) => file.read(offset, length, options),
    keep: async (numbers, options) => write(async () => file.keep(numbers, options)),
    forget: (numbers) => file.forget(numbers),
    [Symbol.asyncDispose]: async () => file[Symbol.asyncDispose](),
  };
}

/** The same store, which calls `before` with the key of each object, and waits for it, before the object is written. */
export function beforeWrites(store: ObjectStore, before: (key: string) => void | Promise<void>): ObjectStore {
  return {
    describe: (key) => store.describe(key),
    stat: async (key, options) => store.stat(key, options),
    read: async (key, options) => store.read(key, options),
    list: (prefix, options) => store.list(prefix, options),
    write: async (key, body, options) => {
      await before(key);
      return store.write(key, body, options);
    },
    stream: async (key, body, options) => {
      await before(key);
      return store.stream(key, body, options);
    },
    upload: async (key, size, options) => {
      await before(key);
      return store.upload(key, size, options);
    },
  };
}
