import type { Source } from '../../content/content.ts';
import { cosignSubject } from '../../oci/derived-tag.ts';
import { readAll } from '../../content/read.ts';
import { isDigest, type Digest } from '../../oci/digest.ts';
import { childrenOf, isIndexType, MAX_MANIFEST_BYTES, parseManifest } from '../../oci/manifest.ts';
import { nameOf, shortened, type SourceImage } from './plan-jobs.ts';
import type { Candidate, CopyRule } from '../../rules/rule.ts';
import { select } from '../../rules/select.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure, isFailure, onSide } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import type { ListedImage, Registry } from '../../images/backends.ts';

/** What a rule selects of one repository. */
export interface SourceList {
  /** In the order of `nameOf`. Nothing was asked about each one yet. */
  readonly selected: readonly Candidate[];
  /** What they stand for: of what ECR listed without a request, elsewhere by one HEAD each. Those that are gone by now are left out. */
  resolve(candidates: readonly Candidate[], options: Abortable): Promise<Resolved>;
  /** What refers to manifests that `isWanted` (by `shortened`), both by `shortened`. */
  referrers(
    isWanted: (subject: string) => boolean,
    options: Abortable,
  ): Promise<ReadonlyMap<string, readonly string[]>>;
  /** Archived images that were left out: they cannot be pulled. */
  readonly archived: number;
}

/** For people: images of `repository` that the list leaves out because they are archived. */
export function archivedWarning(repository: string, { archived }: Pick<SourceList, 'archived'>): string {
  return `${repository}: ${archived} images are archived and cannot be pulled; they are left out`;
}

interface Resolved {
  /** In the order of the candidates. */
  readonly images: readonly SourceImage[];
  /** Whatever is wrong with one image alone. */
  readonly failed: readonly { readonly candidate: Candidate; readonly failure: Failure }[];
}

export interface Pushed {
  readonly tag: string | undefined;
  readonly digest: Digest;
}

/** Requests at once; the registry's own limits come on top. */
const REQUESTS_AT_ONCE = 8;

/**
 * Lists a repository and selects from it. ECR is asked by pages of 1,000 images. Other registries list names: no request is made for those
 * that are not selected. `pushed`: what somebody is known to have pushed just now, whether the list shows it already or not. NOT_FOUND without the
 * repository; UNAVAILABLE when the list lags behind a push without a tag.
 */
export async function listSource(
  rule: CopyRule,
  registry: Registry,
  repository: string,
  nowMs: number,
  options: Abortable & { readonly pushed?: Pushed | undefined },
): Promise<SourceList> {
  const source = registry.repository(repository);
  return onSide(
    'source',
    registry.images === undefined
      ? listTags(rule, source, nowMs, options)
      : listRows(rule, source, registry.images(repository, options), nowMs, options),
  );
}

async function listRows(
  rule: CopyRule,
  source: Source,
  list: AsyncIterable<ListedImage>,
  nowMs: number,
  options: Abortable & { readonly pushed?: Pushed | undefined },
): Promise<SourceList> {
  const listed = await Array.fromAsync(list);
  const rows = options.pushed === undefined ? listed : await withPushed(source, listed, options.pushed, nowMs, options);
  const active = rows.filter(({ status }) => status === 'ACTIVE');
  const candidates: Candidate[] = [];
  const referrers = new Map<string, string[]>();
  for (const row of active) {
    for (const tag of row.tags) candidates.push({ tag, digest: row.digest, pushedAtMs: row.pushedAt?.getTime() });
    for (const subject of subjectsOf(row)) {
      const others = referrers.get(shortened(subject)) ?? [];
      others.push(shortened(row.digest));
      referrers.set(shortened(subject), others);
    }
  }
  if (rule.tags.untagged) candidates.push(...(await untaggedOf(source, active, nowMs, options)));
  const selected = select(candidates, rule.tags, nowMs).toSorted(byName);
  return {
    selected: options.pushed === undefined ? selected : concernedBy(options.pushed, selected, active),
    resolve: async (some) => ({
      images: some.flatMap(({ tag, digest }) => (isDigest(digest) ? [{ tag, digest }] : [])),
      failed: [],
    }),
    referrers: async () => referrers,
    archived: rows.length - active.length,
  };
}

/** What it refers to. */
function subjectsOf({ subject, tags }: ListedImage): readonly Digest[] {
  const signed = tags.map(cosignSubject).filter((about) => about !== undefined);
  return subject === undefined ? signed : [subject, ...signed];
}

/** The list as it is after the push, should it lag behind. */
async function withPushed(
  source: Source,
  rows: readonly ListedImage[],
  { tag, digest }: Pushed,
  nowMs: number,
  options: Abortable,
): Promise<readonly ListedImage[]> {
  const isTagged = (row: ListedImage): boolean => tag === undefined || row.tags.includes(tag);
  if (rows.some((row) => row.digest === digest && isTagged(row))) return rows;
  const now = await found(source, tag ?? digest, options);
  if (now === undefined) return rows;
  // what it refers to is known by the list alone
  if (tag === undefined) throw new Failure('UNAVAILABLE', `${digest} was pushed, but the list does not show it yet`);
  const row = { mediaType: undefined, pushedAt: new Date(nowMs), status: 'ACTIVE', subject: undefined } as const;
  return [
    ...rows.map((other) => ({ ...other, tags: other.tags.filter((name) => name !== tag) })),
    { ...row, digest: now, tags: [tag] },
  ];
}

/** Images that the push may have changed. Of what refers to a child of one nobody knows which one it is: then it is all of them. */
function concernedBy(
  { tag, digest }: Pushed,
  selected: readonly Candidate[],
  rows: readonly ListedImage[],
): readonly Candidate[] {
  const subjects = new Set<string | undefined>(
    rows.flatMap((row) =>
      row.digest === digest || (tag !== undefined && row.tags.includes(tag)) ? subjectsOf(row) : [],
    ),
  );
  const known = new Set<string | undefined>(selected.map((candidate) => candidate.digest));
  if ([...subjects].some((subject) => !known.has(subject))) return selected;
  return selected.filter(
    (candidate) =>
      (tag !== undefined && candidate.tag === tag) || candidate.digest === digest || subjects.has(candidate.digest),
  );
}

/** A push of an index begins with its images: until it is surely over they are not taken for images of their own. */
const PUSH_MS = 10 * 60_000;

async function untaggedOf(
  source: Source,
  rows: readonly ListedImage[],
  nowMs: number,
  options: Abortable,
): Promise<readonly Candidate[]> {
  const untagged = rows.filter(
    ({ tags, subject, pushedAt }) =>
      tags.length === 0 && subject === undefined && (pushedAt === undefined || pushedAt.getTime() <= nowMs - PUSH_MS),
  );
  if (untagged.length === 0) return [];
  const children = await childrenOfIndexes(source, rows, options);
  return untagged
    .filter(({ digest }) => !children.has(digest))
    .map(({ digest, pushedAt }) => ({ tag: undefined, digest, pushedAtMs: pushedAt?.getTime() }));
}

/** What indexes name. The list does not tell it: each index has to be read, which is why untagged images are asked for by name only. */
async function childrenOfIndexes(
  source: Source,
  rows: readonly ListedImage[],
  options: Abortable,
): Promise<ReadonlySet<Digest>> {
  const children = new Set<Digest>();
  const indexes = rows.filter(({ mediaType }) => mediaType !== undefined && isIndexType(mediaType));
  await forEachOf(
    indexes,
    REQUESTS_AT_ONCE,
    async ({ digest }, taskOptions) => {
      try {
        const descriptor = await source.resolve(digest, taskOptions);
        const bytes = await readAll(source, descriptor, MAX_MANIFEST_BYTES, taskOptions);
        for (const child of childrenOf(parseManifest(bytes, descriptor.mediaType))) children.add(child.digest);
      } catch (error) {
        if (!isFailure(error, 'NOT_FOUND')) throw error;
      }
    },
    options,
  );
  return children;
}

async function listTags(rule: CopyRule, source: Source, nowMs: number, options: Abortable): Promise<SourceList> {
  const candidates: Candidate[] = [];
  /** What they are about, by tag. */
  const signatures = new Map<string, string>();
  for await (const tag of source.tags(options)) {
    const subject = cosignSubject(tag);
    if (subject === undefined) candidates.push(tagged(tag));
    else signatures.set(tag, shortened(subject));
  }
  return {
    selected: select(candidates, rule.tags, nowMs).toSorted(byName),
    resolve: async (some, taskOptions) => resolveTags(source, some, taskOptions),
    referrers: async (isWanted, taskOptions) => {
      const wanted = [...signatures].filter(([, subject]) => isWanted(subject)).map(([tag]) => tagged(tag));
      const { images } = await resolveTags(source, wanted, taskOptions);
      const referrers = new Map<string, string[]>();
      for (const { tag = '', digest } of images) {
        const subject = signatures.get(tag) ?? '';
        referrers.set(subject, [...(referrers.get(subject) ?? []), shortened(digest)]);
      }
      return referrers;
    },
    archived: 0,
  };
}

function tagged(tag: string): Candidate {
  return { tag, digest: undefined, pushedAtMs: undefined };
}

async function resolveTags(source: Source, candidates: readonly Candidate[], options: Abortable): Promise<Resolved> {
  const digests = new Map<string, Digest>();
  const failed: { readonly candidate: Candidate; readonly failure: Failure }[] = [];
  await forEachOf(
    candidates,
    REQUESTS_AT_ONCE,
    async (candidate, taskOptions) => {
      const { tag } = candidate;
      if (tag === undefined) throw new Failure('BUG', 'an image without a tag in a list of tags');
      try {
        const digest = await onSide('source', found(source, tag, taskOptions));
        if (digest !== undefined) digests.set(tag, digest);
      } catch (error) {
        // a registry that is away, or does not let us, would say so of each
        if (!isFailure(error, 'INVALID', 'UNSUPPORTED', 'CORRUPT')) throw error;
        failed.push({ candidate, failure: error });
      }
    },
    options,
  );
  const images = candidates.flatMap(({ tag }) => {
    const digest = tag === undefined ? undefined : digests.get(tag);
    return digest === undefined ? [] : [{ tag, digest }];
  });
  return { images, failed };
}

/** What `reference` stands for; undefined when it is gone. */
async function found(source: Source, reference: string, options: Abortable): Promise<Digest | undefined> {
  try {
    return (await source.resolve(reference, options)).digest;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

function byName(a: Candidate, b: Candidate): number {
  const [left, right] = [nameOf(a), nameOf(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}
