// Each wrapper returns the whole backend that it was given (a Source that is also a Target stays both), with one fault. Wrappers compose.
import type { Bytes, Source, Target } from '../../worker/content/content.ts';
import type { Digest } from '../../worker/oci/digest.ts';
import { childrenOf, isManifestType, parseManifest, type Descriptor } from '../../worker/oci/manifest.ts';
import { Failure, type Code } from '../../worker/util/failure.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { collect, lent, rechunk } from './chunks.ts';

type Methods = Omit<Source & Required<Target>, 'rangesAtOnce' | 'inOrder' | 'listedTags'>;
type Fallible = 'resolve' | 'open' | 'tags' | 'has' | 'put' | 'tag';

/** The n-th call of a method (from 1, counted over all descriptors) fails with the code before it does anything. */
export function failing<T extends Source | Target>(
  end: T,
  faults: Readonly<Partial<Record<Fallible, readonly [n: number, code: Code]>>>,
): T {
  const inner = methodsOf(end);
  const calls: Record<Fallible, number> = { resolve: 0, open: 0, tags: 0, has: 0, put: 0, tag: 0 };
  const count = (name: Fallible): void => {
    const call = ++calls[name];
    const [n, code] = faults[name] ?? [0, 'BUG'];
    if (call === n) throw new Failure(code, `${name}: call ${call} was made to fail`);
  };
  return withMethods(end, {
    resolve: async (...args) => {
      count('resolve');
      return inner.resolve(...args);
    },
    open: async (...args) => {
      count('open');
      return inner.open(...args);
    },
    tags: (...args) => {
      count('tags');
      return inner.tags(...args);
    },
    has: async (...args) => {
      count('has');
      return inner.has(...args);
    },
    put: async (...args) => {
      count('put');
      return inner.put(...args);
    },
    tag: async (...args) => {
      count('tag');
      return inner.tag(...args);
    },
  });
}

/** The body of `digest` ends at byte `at` as if it were complete, the first `times` that it gets there. */
export function truncated<T extends Source>(source: T, digest: Digest, offset: number, times = Infinity): T {
  return cut(source, digest, offset, times, undefined);
}

/** The body of `digest` breaks off with UNAVAILABLE at byte `at`, the first `times` that it gets there. */
export function broken<T extends Source>(source: T, digest: Digest, offset: number, times = Infinity): T {
  return cut(
    source,
    digest,
    offset,
    times,
    new Failure('UNAVAILABLE', `the body was made to break off at byte ${offset}`),
  );
}

/** The bytes of `digest` have the one at `at` changed. */
export function corrupting<T extends Source>(source: T, digest: Digest, offset = 0): T {
  return withBodies(source, async function* (body, descriptor, from) {
    let position = from;
    for await (const chunk of body) {
      const place = offset - position;
      position += chunk.byteLength;
      if (descriptor.digest !== digest || place < 0 || place >= chunk.byteLength) yield chunk;
      else yield Uint8Array.from(chunk, (byte, i) => (i === place ? byte ^ 0xff : byte));
    }
  });
}

/** All bodies have chunks of `size` bytes. */
export function rechunked<T extends Source>(source: T, size: number): T {
  return withBodies(source, (body) => rechunk(body, size));
}

/** Every chunk of every body is lent: its memory holds other bytes once the next one is requested. */
export function lending<T extends Source>(source: T): T {
  return withBodies(source, (body) => lent(body));
}

/** Every body delivers a chunk of `chunkBytes` in `msPerChunk` of the clock's time, as over its own connection. Chunks are lent. */
export function slow<T extends Source>(
  source: T,
  clock: Clock,
  { chunkBytes, msPerChunk }: { readonly chunkBytes: number; readonly msPerChunk: number },
): T {
  return withMethods(source, {
    open: async (descriptor, options) => {
      const body = rechunk(await source.open(descriptor, options), chunkBytes);
      const paced = async function* (): Bytes {
        for await (const chunk of body) {
          await clock.sleep(msPerChunk, { signal: options?.signal });
          yield chunk;
        }
      };
      return lent(paced());
    },
  });
}

/** A source that cannot start in the middle: a range with `from` > 0 is UNSUPPORTED, and `to` is ignored. */
export function rangeless<T extends Source>(source: T): T {
  return withMethods(source, {
    open: async (descriptor, options) => {
      if ((options?.from ?? 0) > 0) throw new Failure('UNSUPPORTED', `${descriptor.digest} can only be read whole`);
      return source.open(descriptor, { signal: options?.signal });
    },
  });
}

/**
 * A target that claims to have `digest` although it is missing, like a registry whose storage lost a blob: `has` returns true, and a
 * manifest that names it is refused with NOT_FOUND, until it was really put.
 */
export function lying<T extends Target>(target: T, digest: Digest): T {
  let present = false;
  const refuse = async (descriptor: Descriptor, open: () => Bytes): Promise<void> => {
    if (present || !isManifestType(descriptor.mediaType)) return;
    const children = childrenOf(parseManifest(await collect(open()), descriptor.mediaType));
    if (children.some((child) => child.digest === digest))
      throw new Failure('NOT_FOUND', `put ${descriptor.digest}: ${digest}, which it names, is unknown`);
  };
  return withMethods(target, {
    has: async (descriptor, options) => descriptor.digest === digest || target.has(descriptor, options),
    put: async (descriptor, open, options) => {
      await refuse(descriptor, open);
      await target.put(descriptor, open, options);
      present ||= descriptor.digest === digest;
    },
    tag: async (name, descriptor, open, options) => {
      await refuse(descriptor, open);
      await target.tag(name, descriptor, open, options);
    },
  });
}

/** A body that `open` returned. */
export interface Opened {
  readonly digest: Digest;
  readonly from: number;
  /** Undefined: to the end. */
  readonly to: number | undefined;
  /** Bytes that were read from its body. */
  bytes: number;
  /** Whether its body was read to the end, failed, or was closed early. */
  ended: boolean;
}

export interface Counts {
  readonly calls: Readonly<Record<keyof Methods, number>>;
  readonly opened: readonly Opened[];
  /** Bytes that `put` and `tag` read from their openers. */
  readonly bytesPut: number;
}

/** A backend that counts its calls, and the counts so far. */
export function counting<T extends Source | Target>(end: T): { readonly end: T; readonly counts: Counts } {
  const inner = methodsOf(end);
  const opened: Opened[] = [];
  const calls = { resolve: 0, open: 0, referrers: 0, tags: 0, has: 0, put: 0, tag: 0, mount: 0 };
  const counts = { calls, opened, bytesPut: 0 };
  const counted = async function* (open: () => Bytes): Bytes {
    for await (const chunk of open()) {
      counts.bytesPut += chunk.byteLength;
      yield chunk;
    }
  };
  const watching = withMethods(end, {
    resolve: async (...args) => {
      calls.resolve++;
      return inner.resolve(...args);
    },
    open: async (descriptor, options) => {
      calls.open++;
      const body = await inner.open(descriptor, options);
      const entry: Opened = {
        digest: descriptor.digest,
        from: options?.from ?? 0,
        to: options?.to,
        bytes: 0,
        ended: false,
      };
      opened.push(entry);
      return watched(body, entry);
    },
    referrers: (...args) => {
      calls.referrers++;
      return inner.referrers(...args);
    },
    tags: (...args) => {
      calls.tags++;
      return inner.tags(...args);
    },
    has: async (...args) => {
      calls.has++;
      return inner.has(...args);
    },
    put: async (descriptor, open, options) => {
      calls.put++;
      return inner.put(descriptor, () => counted(open), options);
    },
    tag: async (name, descriptor, open, options) => {
      calls.tag++;
      return inner.tag(name, descriptor, () => counted(open), options);
    },
    mount: async (...args) => {
      calls.mount++;
      return inner.mount(...args);
    },
  });
  return { end: watching, counts };
}

async function* watched(body: Bytes, entry: Opened): Bytes {
  try {
    for await (const chunk of body) {
      entry.bytes += chunk.byteLength;
      yield chunk;
    }
  } finally {
    entry.ended = true;
  }
}

function cut<T extends Source>(
  source: T,
  digest: Digest,
  offset: number,
  times: number,
  failure: Failure | undefined,
): T {
  let left = times;
  return withBodies(source, async function* (body, descriptor, from) {
    let position = from;
    for await (const chunk of body) {
      const here = offset - position;
      if (descriptor.digest === digest && here < chunk.byteLength && left > 0) {
        left--;
        if (here > 0) yield chunk.subarray(0, here);
        if (failure !== undefined) throw failure;
        return;
      }
      position += chunk.byteLength;
      yield chunk;
    }
  });
}

/** The source with every body passed through `change`, with its descriptor and the byte at which it starts. */
function withBodies<T extends Source>(
  source: T,
  change: (body: Bytes, descriptor: Descriptor, from: number) => Bytes,
): T {
  return withMethods(source, {
    open: async (descriptor, options) => change(await source.open(descriptor, options), descriptor, options?.from ?? 0),
  });
}

/** The backend with some of its methods replaced; a method that it lacks is not added. */
function withMethods<T extends Source | Target>(end: T, methods: Partial<Methods>): T {
  return new Proxy(end, {
    get: (inner, name) => {
      const own: unknown = Reflect.get(inner, name, inner);
      if (typeof own !== 'function') return own;
      return Object.hasOwn(methods, name) ? Reflect.get(methods, name) : own.bind(inner);
    },
  });
}

/** All methods of both interfaces; only those that the backend has are ever called. */
function methodsOf(end: Source | Target): Methods {
  return end as Methods;
}
