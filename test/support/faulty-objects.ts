import type { ObjectStore, Upload } from '../../worker/objects/objects.ts';

/** What every call of a store meets that has crashed. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

interface CrashingStore {
  readonly store: ObjectStore;
  /** Points at which it could have crashed, so far. */
  writes(): number;
  /** Bytes handed to `part` and `write` of the store behind it. */
  bytesSent(): number;
}

/**
 * `store` as a process sees it that is killed at its `at`-th write (counted from 1; Infinity: never). Each upload, part, copy, commit, write,
 * stream, remove and abort is two points: before it takes effect, and after it did but before the caller hears of it. From then on every call
 * throws Crash, so what is done after it was not done by the dead.
 */
export function crashing(store: ObjectStore, at: number): CrashingStore {
  let points = 0;
  let sent = 0;
  const alive = (): void => {
    if (points >= at) throw new Crash(`crashed at write ${at}`);
  };
  const point = (): void => {
    alive();
    points++;
    alive();
  };
  const write = async <T>(work: () => Promise<T>, bytes = 0): Promise<T> => {
    point();
    sent += bytes;
    const result = await work();
    point();
    return result;
  };
  const read = async <T>(work: () => Promise<T>): Promise<T> => {
    alive();
    const result = await work();
    alive();
    return result;
  };
  const wrapped: ObjectStore = {
    ...(store.rangesAtOnce === undefined ? {} : { rangesAtOnce: store.rangesAtOnce }),
    describe: (key) => store.describe(key),
    stat: async (key, o) => read(async () => store.stat(key, o)),
    read: async (key, o) => read(async () => store.read(key, o)),
    list: async function* (prefix, o) {
      alive();
      for await (const info of store.list(prefix, o)) {
        yield info;
        alive();
      }
    },
    write: async (key, body, o) => write(async () => store.write(key, body, o), body.byteLength),
    stream: async (key, body, o) => write(async () => store.stream(key, body, o)),
    remove: async (key, o) => write(async () => store.remove(key, o)),
    upload: async (key, size, o) => wrapUpload(await write(async () => store.upload(key, size, o)), write),
  };
  return { store: wrapped, writes: () => points, bytesSent: () => sent };
}

function wrapUpload(upload: Upload, write: <T>(work: () => Promise<T>, bytes?: number) => Promise<T>): Upload {
  return {
    partSize: upload.partSize,
    parts: upload.parts,
    get done() {
      return upload.done;
    },
    part: async (n, bytes, o) => write(async () => upload.part(n, bytes, o), bytes.byteLength),
    ...(upload.copy === undefined
      ? {}
      : { copy: async (n, from, o) => write(async () => (await upload.copy?.(n, from, o)) ?? false) }),
    commit: async (o) => write(async () => upload.commit(o)),
    abort: async () => write(async () => upload.abort()),
  };
}
