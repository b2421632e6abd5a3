import { openFolderTarget } from '../archive/folder.ts';
import { cached } from '../content/cached.ts';
import type { Source, Target } from '../content/content.ts';
import type { Root } from '../content/graph.ts';
import { copy, type CopyResult } from '../copy/copy.ts';
import { dryRun } from '../copy/dry-run.ts';
import { onlyPlatforms } from '../copy/platforms.ts';
import type { Digest } from '../oci/digest.ts';
import { parsePlatform, type Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { atSide, Failure, isFailure } from '../util/failure.ts';
import type { Ends, OperationOptions } from './ends.ts';
import { openLocation, storeOf } from './image.ts';
import { formatLocation, type Location } from '../plan/location.ts';
import { writeArchive } from './write-archive.ts';

/** What of an image is wanted, and how. */
export interface ImageChoices {
  /** `os/architecture[/variant]`; empty for all. */
  readonly platforms?: readonly string[] | undefined;
  /** Whether signatures, SBOMs and whatever else refers to the image come along. Default true. */
  readonly referrers?: boolean | undefined;
  /** Replaces also what is no image at an archive's key. Default false. */
  readonly force?: boolean | undefined;
  /** Reports what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

export interface MirrorRequest extends ImageChoices {
  readonly from: Location;
  readonly to: Location;
}

export interface MirrorResult {
  readonly from: string;
  readonly to: string;
  /** The digest at the target. */
  readonly digest: string;
  /** The digest at the source, where a choice of platforms made another. */
  readonly originalDigest?: string;
  readonly outcome: 'copied' | 'unchanged' | 'planned';
  /** As `CopyResult` has it. */
  readonly manifests: readonly Digest[];
  /** Absent where nothing had to be looked at. */
  readonly copied?: CopyResult;
}

/** Makes the image at `to` equal to the one at `from`, whatever the two are. Idempotent; sends only what is missing. */
export async function mirror(r: MirrorRequest, ends: Ends, o: OperationOptions): Promise<MirrorResult> {
  await using image = await openLocation(ends, r.from, 'source', o);
  const chosen = await choose(image.source, image.root, r.platforms ?? [], o);
  const { digest } = chosen.root.descriptor;
  try {
    return {
      from: formatLocation(r.from),
      digest,
      ...(digest === image.root.descriptor.digest ? {} : { originalDigest: image.root.descriptor.digest }),
      ...(await write(r, { ...chosen, repository: image.repository }, ends, o)),
    };
  } catch (error) {
    throw naming(r.from, error);
  }
}

async function write(
  r: MirrorRequest,
  image: { readonly source: Source; readonly root: Root; readonly repository: string | undefined },
  ends: Ends,
  o: OperationOptions,
): Promise<Pick<MirrorResult, 'to' | 'outcome' | 'manifests' | 'copied'>> {
  const { digest } = image.root.descriptor;
  if (r.to.transport === 's3' || r.to.transport === 'archive') {
    const { store, key } = storeOf(ends, r.to);
    const tag = r.to.tag ?? image.root.tags[0];
    const { outcome, manifests, copied } = await writeArchive(
      {
        ...r,
        source: image.source,
        root: { descriptor: image.root.descriptor, tags: tag === undefined ? [] : [tag] },
        repository: image.repository ?? 'localhost/image',
        store,
        key,
      },
      ends,
      o,
    );
    return { to: formatLocation(r.to), outcome, manifests, ...(copied === undefined ? {} : { copied }) };
  }
  const target = await openTarget(ends, r.to, image.root, o);
  const before = await standsFor(target.end, target.tags, o);
  const source = before?.digest === digest ? cached(image.source, target.end) : image.source;
  const copied = await copy(
    source,
    r.dryRun === true ? dryRun(target.end) : target.end,
    [{ ...image.root, tags: target.tags }],
    {
      ...o,
      referrers: r.referrers,
      mountFrom: mountable(r),
    },
  );
  if (r.dryRun !== true) await target.finish(o);
  const moved = copied.tallies.copied.count + copied.tallies.mounted.count;
  const outcome = r.dryRun === true ? 'planned' : moved === 0 && before?.digest === digest ? 'unchanged' : 'copied';
  return { to: formatLocation(target.location), outcome, manifests: copied.manifests, copied };
}

/** What is wrong with the image itself is told by digests alone: with the name of the image, and what can be done about it. */
function naming(from: Location, error: unknown): unknown {
  if (!isFailure(error, 'CORRUPT', 'INVALID') || error.context.side !== 'source') return error;
  const what = error.message.replace(/^source: /, '');
  const message = `source: ${formatLocation(from)}: ${what}; the image is broken there: push it again, or copy it from elsewhere`;
  return new Failure(error.code, message, { cause: error.cause, context: error.context });
}

/** The image with some platforms only, where any were named. */
async function choose(
  source: Source,
  root: Root,
  platforms: readonly string[],
  o: OperationOptions,
): Promise<{ readonly source: Source; readonly root: Root }> {
  if (platforms.length === 0) return { source, root };
  const only = onlyPlatforms(source, platforms.map(parsePlatform));
  try {
    return { source: only, root: { ...root, descriptor: await only.resolve(root.descriptor.digest, o) } };
  } catch (error) {
    throw atSide('source', error);
  }
}

interface OpenedTarget {
  readonly end: Source & Target;
  readonly tags: readonly string[];
  /** With the tag that the image keeps, where none was named. */
  readonly location: Location;
  /** What is left to do when all of the image is there. */
  finish(o: Abortable): Promise<void>;
}

async function openTarget(
  ends: Ends,
  to: Extract<Location, { transport: 'docker' | 'oci' }>,
  root: Root,
  o: OperationOptions,
): Promise<OpenedTarget> {
  if (to.transport === 'oci') {
    const end = await openFolderTarget(storeOf(ends, to).store, o);
    const tags = to.tag === undefined ? root.tags : [to.tag];
    // a folder finds an image without a tag by its list only
    return {
      end,
      tags,
      location: to,
      finish: async (at) => (tags.length === 0 ? end.list(root.descriptor, at) : undefined),
    };
  }
  const { registry, repository, tag, digest } = to.reference;
  if (digest !== undefined && digest !== root.descriptor.digest) {
    throw new Failure(
      'INVALID',
      `target: ${formatLocation(to)} names a digest that the image, ${root.descriptor.digest}, has not`,
    );
  }
  const tags = tag !== undefined ? [tag] : digest !== undefined ? [] : root.tags;
  const name = tags[0] === undefined ? { digest: root.descriptor.digest } : { tag: tags[0], digest };
  return {
    end: ends.registry(registry, 'target').repository(repository),
    tags,
    location: { transport: 'docker', reference: { registry, repository, ...name } },
    finish: async () => undefined,
  };
}

async function standsFor(
  target: Source,
  tags: readonly string[],
  o: OperationOptions,
): Promise<Descriptor | undefined> {
  const [tag] = tags;
  if (tag === undefined) return undefined;
  try {
    return await target.resolve(tag, o);
  } catch (error) {
    // a repository that is about to be created, or credentials that may push but not look: the copy itself will tell
    if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
    throw atSide('target', error);
  }
}

/** Between repositories of one registry blobs need not move. */
function mountable(r: MirrorRequest): readonly string[] {
  if (r.from.transport !== 'docker' || r.to.transport !== 'docker') return [];
  const [from, to] = [r.from.reference, r.to.reference];
  return from.registry === to.registry && from.repository !== to.repository ? [from.repository] : [];
}
