import { CREATED } from '../artifacts/names.ts';
import type { Source } from '../content/content.ts';
import { readAll } from '../content/read.ts';
import { isReferrersTag } from '../oci/derived-tag.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import {
  childrenOf,
  isManifestType,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  mediaTypeByBytes,
  parseManifest,
  type Descriptor,
  type Manifest,
} from '../oci/manifest.ts';
import type { Inventory, Item } from '../retention/inventory.ts';
import { isRecord } from '../util/record.ts';
import { isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { OperationOptions } from './backends.ts';

/** Before the first release of Docker nothing was pushed: reproducible builds state a time in 1970 or 1980. */
const FIRST_IMAGE_MS = Date.UTC(2013, 2, 20);
/** How far the clock of what built an image may be ahead. What claims to be newer would push real images out of `keepLast`. */
const AHEAD_MS = 24 * 60 * 60 * 1000;
const AT_ONCE = 8;

/** A manifest that was read, without its bytes. */
interface ReadManifest {
  readonly descriptor: Descriptor;
  /** The manifests that it lists. */
  readonly children: readonly Digest[];
  readonly subject: Digest | undefined;
  /** Bytes of the manifest and of the blobs that it names. */
  readonly bytes: number;
  /** When the image was made, from its config. */
  readonly createdMs: number | undefined;
}

/**
 * Everything in a repository that its tags lead to: images, what their indexes list, and what refers to any of them. Registries list only tags, so a
 * manifest that no tag leads to is not found. The time of the push is not known either: `pushedAtMs` is the time at which the image states that it
 * was made, and absent where it states no possible time. NOT_FOUND without the repository.
 */
export async function readRegistryInventory(
  source: Source,
  { host, repository }: { readonly host: string; readonly repository: string },
  options: OperationOptions,
): Promise<Inventory> {
  const tags = await tagsOf(source, options);
  const reader = new Reader(source, options);
  await reader.readFrom([...new Map([...tags.values()].map((found) => [found.digest, found])).values()]);
  const named = Map.groupBy(tags, ([, { digest }]) => digest);
  const created = new Map<Digest, number | undefined>();
  return {
    place: `${host}/${repository}`,
    repository,
    kind: 'images',
    items: [...reader.found.values()].map((manifest) =>
      itemOf(manifest, (named.get(manifest.descriptor.digest) ?? []).map(([tag]) => tag).sort(), reader.found, created),
    ),
    untags: true,
  };
}

/** What each tag stands for; tags that stand for nothing by now are left out. */
async function tagsOf(source: Source, options: OperationOptions): Promise<ReadonlyMap<string, Descriptor>> {
  const names: string[] = [];
  for await (const tag of source.tags({ ...options, all: true })) names.push(tag);
  const tags = new Map<string, Descriptor>();
  await forEachOf(
    names,
    options.concurrency ?? AT_ONCE,
    async (tag, { signal }) => {
      try {
        tags.set(tag, await source.resolve(tag, { signal }));
      } catch (error) {
        if (!isFailure(error, 'NOT_FOUND')) throw error;
      }
    },
    options,
  );
  return tags;
}

class Reader {
  readonly found = new Map<Digest, ReadManifest>();
  readonly #source: Source;
  readonly #options: OperationOptions;

  constructor(source: Source, options: OperationOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** Reads these manifests, and everything that they lead to. */
  async readFrom(first: readonly Descriptor[]): Promise<void> {
    const known = new Set(first.map(({ digest }) => digest));
    let wanted = first;
    while (wanted.length > 0) {
      const next = new Map<Digest, Descriptor>();
      await forEachOf(
        wanted,
        this.#options.concurrency ?? AT_ONCE,
        async (descriptor, { signal }) => {
          for (const led of await this.#read(descriptor, signal)) if (!known.has(led.digest)) next.set(led.digest, led);
        },
        this.#options,
      );
      for (const digest of next.keys()) known.add(digest);
      wanted = [...next.values()];
    }
  }

  /** The manifests that it leads to. One that is gone leads nowhere. */
  async #read(descriptor: Descriptor, signal: AbortSignal): Promise<readonly Descriptor[]> {
    const { report, clock } = this.#options;
    try {
      const bytes = await readAll(this.#source, descriptor, MAX_MANIFEST_BYTES, { signal, report, clock });
      const mediaType = mediaTypeByBytes(bytes, descriptor.mediaType);
      const manifest = parseManifest(bytes, mediaType);
      const named = childrenOf(manifest);
      const listed = manifest.kind === 'index' ? named.filter((child) => isManifestType(child.mediaType)) : [];
      this.found.set(descriptor.digest, {
        descriptor: { ...descriptor, mediaType },
        // whatever type the index gives them: a manifest that has a tag too is not deleted below it
        children: manifest.kind === 'index' ? named.map(({ digest }) => digest) : [],
        subject: manifest.subject?.digest,
        bytes: bytes.byteLength + (manifest.kind === 'index' ? 0 : named.reduce((sum, { size }) => sum + size, 0)),
        createdMs: await this.#createdMs(manifest, signal),
      });
      const led: Descriptor[] = [...listed];
      for await (const referrer of this.#source.referrers(descriptor, { signal })) led.push(referrer);
      return led;
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND')) return [];
      throw error;
    }
  }

  async #createdMs(manifest: Manifest, signal: AbortSignal): Promise<number | undefined> {
    const timeOf = (value: unknown): number | undefined => timeUntil(this.#options.clock.now() + AHEAD_MS, value);
    const said = timeOf(manifest.annotations?.[CREATED]);
    if (said !== undefined || manifest.kind !== 'image') return said;
    const { config } = manifest;
    const isConfig = config.mediaType === MEDIA_TYPE.ociConfig || config.mediaType === MEDIA_TYPE.dockerConfig;
    if (!isConfig || config.size > MAX_MANIFEST_BYTES) return undefined;
    const { report, clock } = this.#options;
    try {
      const bytes = await readAll(this.#source, config, MAX_MANIFEST_BYTES, { signal, report, clock });
      const value: unknown = JSON.parse(Buffer.from(bytes).toString());
      return isRecord(value) ? timeOf(value['created']) : undefined;
    } catch (error) {
      // an image that is not whole is treated as one without a time
      if (error instanceof SyntaxError || isFailure(error, 'NOT_FOUND', 'CORRUPT')) return undefined;
      throw error;
    }
  }
}

/** Undefined for what is not a time, for times before there were images, and for those after `lastMs`. */
function timeUntil(lastMs: number, value: unknown): number | undefined {
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return ms >= FIRST_IMAGE_MS && ms <= lastMs ? ms : undefined;
}

function itemOf(
  manifest: ReadManifest,
  tags: readonly string[],
  found: ReadonlyMap<Digest, ReadManifest>,
  created: Map<Digest, number | undefined>,
): Item {
  const { descriptor, children, subject, bytes } = manifest;
  return {
    id: descriptor.digest,
    digest: descriptor.digest,
    tags,
    mediaType: descriptor.mediaType,
    bytes,
    pushedAtMs: createdOf(manifest, found, created),
    children,
    subject: subject ?? subjectOfTags(tags, found),
  };
}

/** When an image was made, from its config; for an index, when the newest of its images was made. `known` has the results of earlier calls. */
function createdOf(
  { descriptor: { digest }, createdMs, children }: ReadManifest,
  found: ReadonlyMap<Digest, ReadManifest>,
  known: Map<Digest, number | undefined>,
): number | undefined {
  if (createdMs !== undefined || known.has(digest)) return createdMs ?? known.get(digest);
  // one that lists itself
  known.set(digest, undefined);
  let newest: number | undefined;
  for (const child of children) {
    const read = found.get(child);
    const ms = read === undefined ? undefined : createdOf(read, found, known);
    if (ms !== undefined) newest = Math.max(ms, newest ?? ms);
  }
  known.set(digest, newest);
  return newest;
}

/** The image that a list of referrers is about, by the tag that it has: of a sha512 digest it has the beginning. */
function subjectOfTags(tags: readonly string[], found: ReadonlyMap<Digest, ReadManifest>): Digest | undefined {
  const tag = tags.find(isReferrersTag);
  if (tag === undefined) return undefined;
  const begin = tag.replace('-', ':');
  return isDigest(begin) ? begin : [...found.keys()].find((digest) => digest.startsWith(begin));
}
