import { z } from 'zod';
import { isDigest, type Digest } from '../oci/digest.ts';
import { matchesPattern } from '../oci/location.ts';
import { isRepositoryName, isTag } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { messageOf, valueAt } from '../util/schema-faults.ts';
import { quote } from '../util/text.ts';
import type { Snapshot, SnapshotRepository } from './snapshot.ts';

/** The version that this program writes, and the newest one that it reads. */
export const SNAPSHOT_VERSION = 1;

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const count = z.int().nonnegative();
const text = z.string().min(1);
const digest = z.custom<Digest>(isDigest, 'expected a digest');
const tag = z.string().refine(isTag, 'expected a tag');
const time = z
  .string()
  .refine(
    (value) => TIME.test(value) && !Number.isNaN(Date.parse(value)),
    'expected a time such as 2026-12-01T02:00:00.000Z',
  );
const repositoryName = z.string().refine(isRepositoryName, 'expected the name of a repository');
/** A pattern of names, as `matchesPattern` takes it. */
const pattern = text.refine(isPatternOfNames, 'expected a pattern such as team/*');
const settings = z.record(z.string(), z.unknown()).exactOptional();

const referrer = z.object({
  digest,
  mediaType: text,
  size: count,
  artifactType: z.string().exactOptional(),
  subject: digest,
  tags: z.array(tag),
  content: z.array(count),
});
const archive = z.object({
  tag: tag.exactOptional(),
  key: text,
  size: count,
  etag: text,
  version: text.exactOptional(),
});
const image = z.object({
  digest,
  mediaType: text,
  size: count,
  bytes: count,
  tags: z.array(tag),
  artifactType: z.string().exactOptional(),
  pushedAt: time.exactOptional(),
  content: z.array(count),
  referrers: z.array(referrer),
  foreign: z.array(digest).exactOptional(),
  unchecked: z.array(z.string()).exactOptional(),
  archived: z.literal(true).exactOptional(),
  archives: z.array(archive).exactOptional(),
});
const document = z.object({
  version: z.literal(SNAPSHOT_VERSION),
  startedAt: time,
  finishedAt: time,
  tool: text,
  rule: text.exactOptional(),
  run: text.exactOptional(),
  kind: z.enum(['store', 'archives']),
  registry: z.object({
    host: text,
    account: text.exactOptional(),
    region: text.exactOptional(),
    settings,
  }),
  scope: z.object({
    repositories: pattern,
    tags: pattern.exactOptional(),
    untagged: z.boolean(),
    referrers: z.boolean(),
    platforms: z.array(text),
    listed: z.boolean(),
  }),
  content: z.array(z.object({ digest, size: count, mediaType: text.exactOptional() })),
  repositories: z.array(z.object({ name: repositoryName, complete: z.boolean(), settings, images: z.array(image) })),
  failures: z.array(
    z.object({
      repository: repositoryName.exactOptional(),
      tag: tag.exactOptional(),
      digest: digest.exactOptional(),
      reason: text,
    }),
  ),
  added: z.object({ blobs: count, bytes: count }),
});

function isPatternOfNames(value: string): boolean {
  try {
    matchesPattern(value, '');
    return true;
  } catch {
    return false;
  }
}

/**
 * The snapshot that parsed JSON is; members that this version does not know are left out. INVALID, with one sentence that names the first fault
 * and begins with `what`, for a newer version and for what is not a snapshot.
 */
export function readSnapshotDocument(value: unknown, what: string): Snapshot {
  const version = isRecord(value) ? value['version'] : undefined;
  if (typeof version === 'number' && version > SNAPSHOT_VERSION)
    throw new Failure(
      'INVALID',
      `${what} was written by a newer Transship: it has version ${version} of the format, and this program reads version ${SNAPSHOT_VERSION}: update this program`,
    );
  const read = document.safeParse(value);
  if (!read.success) {
    const [issue] = read.error.issues;
    throw new Failure(
      'INVALID',
      `${what} is not a snapshot${issue === undefined ? '' : `: ${sentenceOf(issue, value)}`}`,
    );
  }
  const fault = firstFault(read.data);
  if (fault === undefined) return read.data;
  throw new Failure('INVALID', `${what} is not a snapshot: ${fault}`);
}

function sentenceOf(issue: z.core.$ZodIssue, value: unknown): string {
  const path = issue.path.map(String).join('.');
  return `${path === '' ? 'the document' : path}: ${messageOf(issue)}, and it is ${quote(valueAt(value, issue.path))}`;
}

/** What contradicts itself in the document. Undefined: nothing. */
export function firstFault(snapshot: Snapshot): string | undefined {
  const digests = new Set(snapshot.content.map((one) => one.digest));
  if (digests.size !== snapshot.content.length) return 'content lists a digest twice';
  let before: string | undefined;
  for (const repository of snapshot.repositories) {
    if (before !== undefined && before >= repository.name)
      return `the repository ${quote(repository.name)} is listed twice or out of order`;
    before = repository.name;
    const fault = faultOf(repository, snapshot);
    if (fault !== undefined) return `${repository.name}: ${fault}`;
  }
  return undefined;
}

function faultOf(repository: SnapshotRepository, { content, kind }: Snapshot): string | undefined {
  const digests = new Set<Digest>();
  const tags = new Set<string>();
  for (const found of repository.images) {
    if (digests.has(found.digest)) return `${found.digest} is listed twice`;
    digests.add(found.digest);
    for (const one of found.tags) {
      if (tags.has(one)) return `the tag ${quote(one)} is on two images`;
      tags.add(one);
    }
    if ((found.archived === true) !== (found.content.length === 0))
      return `${found.digest} has no content, or is archived and has some`;
    for (const { digest: own, content: places } of [found, ...found.referrers]) {
      if (places.some((place) => content[place] === undefined)) return `${own} names content that is not listed`;
      const [first] = places;
      if (first !== undefined && content[first]?.digest !== own) return `the content of ${own} does not begin with it`;
    }
    if (found.referrers.some((one) => one.content.length === 0)) return `a referrer of ${found.digest} has no content`;
    const stored = found.archives ?? [];
    if (kind === 'store' ? stored.length > 0 : stored.length === 0 && found.archived !== true)
      return `${found.digest} has ${stored.length} archives in a snapshot of ${kind === 'store' ? 'a store' : 'archives'}`;
    if (stored.some((one) => one.tag !== undefined && !found.tags.includes(one.tag)))
      return `an archive of ${found.digest} has a tag that the image does not have`;
  }
  return undefined;
}
