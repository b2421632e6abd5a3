// Runs of a process that may be killed at any write: simulated in the process of a test, or real in killed-process.ts.
import type { Target } from '../../worker/content/content.ts';
import { manifestsFrom } from '../../worker/content/manifests-from.ts';
import { walk } from '../../worker/content/graph.ts';
import { copy } from '../../worker/copy/copy.ts';
import type { InPlace, ObjectStore, Upload } from '../../worker/objects/objects.ts';
import { openArchiveTarget } from '../../worker/images/archive-target.ts';
import type { OperationOptions } from '../../worker/images/backends.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { REPOSITORY } from './archives.ts';
import { crashed, CrashPoints } from './crash.ts';
import { crashing } from './faulty-objects.ts';
import type { MadeImage } from './images.ts';

/** What is known of a run at its end. */
export interface ProcessRun {
  readonly wasKilled: boolean;
  /** Points at which it could have been killed; if it was killed, up to that point. */
  readonly points: number;
  /** How many bytes of the archive were passed to the store. */
  readonly bytesSent: number;
  /** If it was killed: writes of content that were passed to the store, which had not answered, and their bytes. */
  readonly writesInFlight: number;
  readonly bytesInFlight: number;
}

const NOTHING_IN_FLIGHT = { writesInFlight: 0, bytesInFlight: 0 };

interface InFlight {
  writes: number;
  bytes: number;
}

export interface ProcessRunOptions {
  /** The point at which it is killed, counted from 1. Default: never. */
  readonly at?: number | undefined;
  /** Called when it is killed. Unless that ends the process, the rest is simulated as if it had. */
  readonly onKill?: (run: ProcessRun) => void;
}

/** Backs `image` up as `transship backup` does, with its defaults except for the size of parts, or resumes an earlier run. */
export async function runBackup(
  image: MadeImage,
  store: ObjectStore,
  key: string,
  options: ProcessRunOptions & { readonly partSize: number },
): Promise<ProcessRun> {
  const inFlight = { writes: 0, bytes: 0 };
  let killed: ProcessRun | undefined;
  const stopped = crashing(store, options.at ?? Infinity, () => {
    const atKill = { writesInFlight: inFlight.writes, bytesInFlight: inFlight.bytes };
    killed = { wasKilled: true, points: stopped.writes(), bytesSent: stopped.bytesSent(), ...atKill };
    options.onKill?.(killed);
  });
  const writing = writeArchive(image, inParts(stopped.store, options.partSize, inFlight), key, { clock: systemClock });
  await crashed(writing);
  return killed ?? { wasKilled: false, points: stopped.writes(), bytesSent: stopped.bytesSent(), ...NOTHING_IN_FLIGHT };
}

async function writeArchive(
  { content, root }: MadeImage,
  store: ObjectStore,
  key: string,
  options: OperationOptions,
): Promise<void> {
  await using target = await openArchiveTarget({ store, key, temporary: noTemporary }, options);
  const source = target.current === undefined ? content : manifestsFrom(content, target.current);
  const graph = await walk(source, [root], options);
  await target.write({ source: content, graph, repository: REPOSITORY });
}

/** Mirrors `image` to `target`, or completes what an earlier run left. */
export async function runMirror(
  image: MadeImage,
  target: Target,
  options: ProcessRunOptions = {},
): Promise<ProcessRun> {
  let killed: ProcessRun | undefined;
  const points = new CrashPoints(options.at ?? Infinity, () => {
    killed = { wasKilled: true, points: points.count, bytesSent: 0, ...NOTHING_IN_FLIGHT };
    options.onKill?.(killed);
  });
  await crashed(copy(image.content, crashingTarget(target, points), [image.root], { strict: true }));
  return killed ?? { wasKilled: false, points: points.count, bytesSent: 0, ...NOTHING_IN_FLIGHT };
}

/**
 * `target` as a process sees it that is killed at one of `points`. Each put and tag has several points: before it begins, when the first
 * bytes of each chunk were sent, and when it took effect but the caller does not know yet.
 */
export function crashingTarget(target: Target, points: CrashPoints): Target {
  const write = async (
    open: Parameters<Target['put']>[1],
    work: (opener: Parameters<Target['put']>[1]) => Promise<void>,
  ): Promise<void> => {
    points.point();
    await work(async function* () {
      for await (const chunk of open()) {
        // half of a chunk is in transit at this point
        if (chunk.byteLength > 1) yield chunk.subarray(0, chunk.byteLength / 2);
        points.point();
        yield chunk.subarray(chunk.byteLength > 1 ? chunk.byteLength / 2 : 0);
      }
    });
    points.point();
  };
  return {
    has: async (descriptor, options) => {
      points.alive();
      return target.has(descriptor, options);
    },
    put: async (descriptor, open, options) => write(open, async (opener) => target.put(descriptor, opener, options)),
    tag: async (name, descriptor, open, options) =>
      write(open, async (opener) => target.tag(name, descriptor, opener, options)),
  };
}

/** The store with uploads in parts of this size; `inFlight` counts the writes that it has not answered. */
function inParts(store: ObjectStore, partSize: number, inFlight: InFlight): ObjectStore {
  const counted = async (bytes: number, write: Promise<void>): Promise<void> => {
    inFlight.writes++;
    inFlight.bytes += bytes;
    try {
      await write;
    } finally {
      inFlight.writes--;
      inFlight.bytes -= bytes;
    }
  };
  return {
    ...store,
    upload: async (key, size, options) => {
      const upload = await store.upload(key, size, { ...options, partSize });
      const members: Partial<Upload> = { part: async (...args) => counted(partSize, upload.part(...args)) };
      const openInPlace = upload.openInPlace?.bind(upload);
      if (openInPlace !== undefined)
        members.openInPlace = async (opened) => countedInPlace(await openInPlace(opened), counted);
      return new Proxy(upload, {
        get: (of, name) => {
          if (Object.hasOwn(members, name)) return Reflect.get(members, name) as unknown;
          const member: unknown = Reflect.get(of, name);
          return typeof member === 'function' ? (member.bind(of) as unknown) : member;
        },
      });
    },
  };
}

/** Node does not dispose of a proxy, so each member is named. */
function countedInPlace(file: InPlace, counted: (bytes: number, write: Promise<void>) => Promise<void>): InPlace {
  return {
    isPublished: file.isPublished,
    isResumed: file.isResumed,
    write: async (offset, bytes, options) => counted(bytes.byteLength, file.write(offset, bytes, options)),
    has: async (offset, bytes, options) => file.has(offset, bytes, options),
    read: (offset, length, options) => file.read(offset, length, options),
    keep: async (numbers, options) => file.keep(numbers, options),
    forget: (numbers) => file.forget(numbers),
    [Symbol.asyncDispose]: async () => file[Symbol.asyncDispose](),
  };
}

/** Plain archives are read in place. */
async function noTemporary(): Promise<never> {
  throw new Error('a temporary folder was requested');
}
