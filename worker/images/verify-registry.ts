import type { Digest } from '../oci/digest.ts';
import { parseLocation } from '../oci/location.ts';
import type { Place } from '../oci/place.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { append } from '../util/lists.ts';
import { listPlace } from './list-place.ts';
import type { PlaceEntry } from './place-entry.ts';
import { isInSample } from '../util/sample.ts';
import { Unread } from './unread.ts';
import { verifyImage, type Verifying, type VerifyResult } from './verify-image.ts';
import { faultsOf, type Finding, type PlaceRequest, type PlaceResult } from './verify-result.ts';

const AT_ONCE = 8;
const IMAGES_AT_ONCE = 4;

/**
 * Verifies what a pattern names in a registry: every tag stands for the image that is listed, and with depth `blobs` or `bytes` every image is opened,
 * untagged ones too where the registry lists them. An image that cannot be asked is a finding. What images share is read once, and asked for once
 * in each repository.
 */
export async function verifyRegistry(
  place: Extract<Place, { kind: 'registry' }>,
  request: PlaceRequest,
  verifying: Verifying,
): Promise<PlaceResult> {
  const { depth, backends, options } = verifying;
  const { sample, only, snapshot, asOfMs } = request;
  const findings: Finding[] = [];
  const unchecked: string[] = [];
  const images: VerifyResult[] = [];
  const counted = { names: 0, checked: 0 };
  const unread = new Unread();
  let repository: PlaceEntry[] = [];
  const flush = async (): Promise<void> => {
    const [first] = repository;
    if (first === undefined) return;
    const archived = repository.filter((entry) => entry.archived === true);
    for (const { where } of archived)
      unchecked.push(`${where} is in the archive storage class of ECR, and cannot be read`);
    const readable = repository.filter((entry) => entry.archived !== true);
    counted.names += repository.length;
    if (depth === 'tags') {
      const moved = await movedIn(readable, unread, verifying);
      append(findings, moved);
      counted.checked += readable.length - moved.filter(({ kind }) => kind === 'unread').length;
    } else {
      const found = await imagesIn(readable, request, unread, verifying);
      append(images, found.images);
      append(findings, found.findings);
      counted.checked += found.checked;
    }
    repository = [];
  };
  const listing = { ...options, only, untagged: true, referrers: 'listed' as const, snapshot, asOfMs };
  for await (const entry of listPlace(place, backends, listing)) {
    if (repository[0] !== undefined && repository[0].repository !== entry.repository) await flush();
    repository.push(entry);
  }
  await flush();
  unread.end();
  return {
    place: place.text,
    depth,
    sample,
    names: { checked: counted.checked, of: counted.names },
    hashedBytes: images.reduce((sum, { hashedBytes }) => sum + hashedBytes, 0),
    images,
    findings: [...findings, ...faultsOf(images)],
    unchecked,
    complete:
      depth === 'bytes' && sample === undefined && unchecked.length === 0 && images.every(({ complete }) => complete),
  };
}

/** Whether each name stands for what is listed: of registries without a list of digests, listing asked for that. */
async function movedIn(
  entries: readonly PlaceEntry[],
  unread: Unread,
  { backends, options }: Verifying,
): Promise<readonly Finding[]> {
  const [first] = entries;
  if (first === undefined) return [];
  const { registry: host = '', repository } = first;
  const registry = backends.registry(host, 'source');
  if (registry.images === undefined) return [];
  const source = registry.repository(repository);
  const findings: Finding[] = [];
  await forEachOf(
    entries,
    options.concurrency ?? AT_ONCE,
    async ({ tag, digest, where }, { signal }) => {
      try {
        const found = await source.resolve(tag ?? digest ?? '', { signal });
        unread.looked();
        if (found.digest === digest) return;
        findings.push({ kind: 'moved', at: where, message: movedMessage(digest, found.digest) });
      } catch (error) {
        checkAborted({ signal });
        if (isFailure(error, 'NOT_FOUND')) {
          const message = `it is listed, and cannot be pulled: ${error.message}`;
          findings.push({ kind: 'missing', at: where, message });
        } else findings.push(unread.finding(where, error));
      }
    },
    options,
  );
  return findings;
}

/** Opens the images of one repository: those with tags first, then what they did not lead to. */
async function imagesIn(
  entries: readonly PlaceEntry[],
  { sample, onManifests }: PlaceRequest,
  unread: Unread,
  verifying: Verifying,
): Promise<{
  readonly images: readonly VerifyResult[];
  readonly findings: readonly Finding[];
  readonly checked: number;
}> {
  const { options } = verifying;
  const images: VerifyResult[] = [];
  const findings: Finding[] = [];
  const known = new Set<Digest>();
  const reached = new Set<Digest>();
  const note = (digests: Iterable<Digest>): void => {
    const all = [...digests];
    for (const one of all) reached.add(one);
    onManifests?.(all);
  };
  const isNew = ({ digest, tag }: PlaceEntry): boolean => {
    if (digest === undefined || known.has(digest) || (tag === undefined && reached.has(digest))) return false;
    known.add(digest);
    return true;
  };
  const sampled = entries.filter(({ digest = '' }) => isInSample(sample, digest));
  const [tagged, untagged] = [true, false].map((has) => sampled.filter(({ tag }) => (tag !== undefined) === has));
  for (const round of [tagged, untagged]) {
    await forEachOf(
      (round ?? []).filter(isNew),
      Math.min(options.concurrency ?? IMAGES_AT_ONCE, IMAGES_AT_ONCE),
      async (entry, { signal }) => {
        const { image, finding } = await openListed(entry, note, unread, {
          ...verifying,
          options: { ...options, signal },
        });
        if (image !== undefined) images.push(image);
        if (finding !== undefined) findings.push(finding);
      },
      options,
    );
  }
  images.sort((a, b) => (a.at < b.at ? -1 : 1));
  const unasked = findings.filter(({ kind }) => kind === 'unread').length;
  return { images, findings, checked: sampled.length - unasked };
}

/** Verifies an image that was listed. One that cannot be pulled or asked, or that changed since, is a finding. */
async function openListed(
  { where: at, digest }: PlaceEntry,
  onManifests: (digests: Iterable<Digest>) => void,
  unread: Unread,
  verifying: Verifying,
): Promise<{ readonly image?: VerifyResult; readonly finding?: Finding }> {
  try {
    const image = await verifyImage(parseLocation(at), verifying, { onManifests });
    unread.looked();
    if (image.digest === undefined || image.digest === digest) return { image };
    return { image, finding: { kind: 'moved', at, message: movedMessage(digest, image.digest) } };
  } catch (error) {
    checkAborted(verifying.options);
    if (!isFailure(error, 'NOT_FOUND', 'UNSUPPORTED')) return { finding: unread.finding(at, error) };
    const kind = error.code === 'NOT_FOUND' ? 'missing' : 'faulty';
    return { finding: { kind, at, message: describeFailure(error) } };
  }
}

function movedMessage(listed: string | undefined, found: string): string {
  return `it was listed as ${listed}, and stands for ${found}: it moved meanwhile, or the registry contradicts itself`;
}
