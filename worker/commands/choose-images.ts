import type { Backends, OperationOptions } from '../images/backends.ts';
import { matchingImages, withoutRepeated } from '../images/matching-images.ts';
import { parseRegistryImages } from '../images/list-repositories.ts';
import { isPattern, withoutTransport, type ImagePattern } from '../oci/location.ts';
import { formatReference, formatRepository, parseReference, type Reference } from '../oci/reference.ts';
import { mapRepository, parseRepositoryMap, type RepositoryMap } from '../oci/repository-map.ts';
import { destinationsOf } from '../rules/destinations.ts';
import type { TagSelection } from '../rules/rule.ts';
import { select } from '../rules/select.ts';
import { describeFailure, Failure, toFailure } from '../util/failure.ts';
import { append } from '../util/lists.ts';
import { quote } from '../util/text.ts';
import type { CommandContext } from './context.ts';
import { readInput } from './input.ts';
import type { ManyFlags } from './many-flags.ts';

/** An image, and its destination. */
interface NamedImage {
  readonly from: Reference;
  readonly to: string;
}

/** What is copied, and a sentence for each part that could not be listed. */
export interface ChosenImages {
  readonly images: readonly NamedImage[];
  readonly faults: readonly string[];
}

/**
 * The images that a command line stands for, each with its destination. `dst` is a template as rules have it: one that ends in `/` is
 * followed by the repository. INVALID for what cannot be read and for two images with one destination; NOT_FOUND where
 * nothing is chosen.
 */
export async function chooseImages(
  src: string,
  dst: string,
  flags: ManyFlags,
  context: CommandContext,
  backends: Backends,
  options: OperationOptions,
): Promise<ChosenImages> {
  const maps = (flags.map ?? []).map(parseRepositoryMap);
  const lines = flags.imagesFrom === undefined ? [src] : await linesOf(flags.imagesFrom, context);
  const selection = selectionOf(flags);
  const isChosen = flags.tags !== undefined || flags.semver !== undefined || flags.latest !== undefined;
  // before a registry is asked for anything
  const wanted = lines.map((line) => readLine(line, isChosen || flags.imagesFrom === undefined));
  select([], selection, 0);
  const nowMs = context.clock.now();
  const faults: string[] = [];
  let failed: Failure | undefined;
  const onFailure = (repository: string, failure: Failure): void => {
    failed ??= failure;
    faults.push(`${repository} was not copied: ${describeFailure(failure)}`);
    options.report?.({ type: 'warning', message: `${repository}: ${describeFailure(failure)}` });
  };
  const found: Reference[] = [];
  for (const one of wanted) {
    if ('image' in one) found.push(one.image);
    else {
      try {
        const choose = {
          ...options,
          select: (all: Parameters<typeof select>[0]) => select(all, selection, nowMs),
          onFailure,
        };
        append(found, await matchingImages(one.pattern, backends, choose));
      } catch (error) {
        const failure = toFailure(error);
        if (failure.code === 'ABORTED' || failure.code === 'INVALID' || wanted.length === 1) throw failure;
        onFailure(formatRepository(one.pattern), failure);
      }
    }
  }
  const images = withoutRepeated(found);
  if (images.length === 0) throw failed ?? new Failure('NOT_FOUND', `no image matches ${describeChoice(src, flags)}`);
  return { images: named(images, dst, maps, nowMs), faults };
}

/** A line without a pattern is one image, unless tags are chosen, or the whole repository is meant. */
function readLine(
  line: string,
  wholeRepositories: boolean,
): { readonly image: Reference } | { readonly pattern: ImagePattern } {
  const bare = withoutTransport(line);
  if (/^(?:s3:\/\/|oci:|oci-archive:|docker-archive:|store:)/.test(line))
    throw new Failure('INVALID', `${quote(line)} is one archive: several images are those of a registry`);
  if (!isPattern(bare) && (!wholeRepositories || bare.includes('@'))) return { image: parseReference(bare) };
  return { pattern: parseRegistryImages(bare) };
}

function selectionOf({ tags = [], semver, latest }: ManyFlags): TagSelection {
  return {
    include: tags,
    exclude: [],
    semver,
    latest: latest === undefined ? undefined : { count: latest, by: 'version' },
    untagged: false,
  };
}

/** The choice of tags for a backup into a store, which its workers make. */
export function storeSelection(flags: ManyFlags): { readonly select?: Partial<TagSelection> } {
  const { tags, semver, latest } = flags;
  if (tags === undefined && semver === undefined && latest === undefined) return {};
  const { include, latest: count } = selectionOf(flags);
  return {
    select: {
      ...(tags === undefined ? {} : { include }),
      ...(semver === undefined ? {} : { semver }),
      ...(count === undefined ? {} : { latest: count }),
    },
  };
}

function named(
  images: readonly Reference[],
  dst: string,
  maps: readonly RepositoryMap[],
  nowMs: number,
): readonly NamedImage[] {
  if (/^(?:store:|oci-archive:|oci:|docker-archive:)/.test(dst))
    throw new Failure('INVALID', `${quote(dst)} takes one image of copy: use transship backup for several`);
  const kind = dst.startsWith('s3://') ? 'backup' : 'mirror';
  const used = new Set<RepositoryMap>();
  const taken = new Map<string, string>();
  const all = images.map((from) => {
    const { name, by } = mapRepository(maps, from.repository);
    if (by !== undefined) used.add(by);
    const [destination] = destinationsOf({ kind, to: [dst] }, { ...from, repository: name }, from.digest, nowMs);
    const to = destination?.location ?? '';
    const other = taken.get(to);
    if (other !== undefined)
      throw new Failure(
        'INVALID',
        `${other} and ${formatReference(from)} would both be ${to}: end the destination with "/", or use {repository} and {tag}`,
      );
    taken.set(to, formatReference(from));
    return { from, to };
  });
  const unused = maps.find((map) => !used.has(map));
  if (unused !== undefined)
    throw new Failure('INVALID', `--map ${unused.text} matches none of the ${images.length} images`);
  return all;
}

/** The lines of a list of images, without comments and blank lines. */
async function linesOf(file: string, context: CommandContext): Promise<readonly string[]> {
  const text = await readInput(file, 'images', context);
  // as editors of Windows write it, too
  const lines = text.split(/\r?\n/).map((line) => line.replace(/(?:^|\s)#.*$/, '').trim());
  const images = lines.filter((line) => line !== '');
  if (images.length > 0) return images;
  throw new Failure('INVALID', `--images-from ${quote(file)}: it names no image`);
}

function describeChoice(src: string, { imagesFrom, tags, semver, latest }: ManyFlags): string {
  return [
    imagesFrom === undefined ? src : `--images-from ${imagesFrom}`,
    ...(tags ?? []).map((tag) => `--tags ${quote(tag)}`),
    ...(semver === undefined ? [] : [`--semver ${quote(semver)}`]),
    ...(latest === undefined ? [] : [`--latest ${latest}`]),
  ].join(' ');
}
