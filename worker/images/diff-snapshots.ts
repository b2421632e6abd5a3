import type { Digest } from '../oci/digest.ts';
import { isDerivedTag } from '../oci/derived-tag.ts';
import { parsePlace } from '../oci/place.ts';
import { readState } from '../store/read-state.ts';
import type { Snapshot } from '../store/snapshot.ts';
import { compareStrings } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { listPlace } from './list-place.ts';
import { openBackups, type BackupPlace } from './open-backups.ts';
import {
  changesBetween,
  keyOf,
  recordedIn,
  type ImageChange,
  type ImageName,
  type Recorded,
} from './snapshot-changes.ts';

/** An image of the registry that no backup has. */
export interface NotBackedUp extends ImageName {
  /** One sentence. */
  readonly reason: string;
}

/** An image of the registry, as a selection of tags sees it. */
interface RegistryImage extends ImageName {
  readonly digest: Digest;
  readonly pushedAtMs: number | undefined;
}

/** What a later snapshot, or the registry now, has that an earlier snapshot does not, and the other way round. */
export interface SnapshotsDiff {
  /** The id of the first snapshot. */
  readonly a: string;
  /** The id of the second snapshot, or `now`. */
  readonly b: string;
  readonly registry: string;
  readonly changes: readonly ImageChange[];
  /** How many names stand for the same image with the same referrers, as far as both snapshots list them. */
  readonly same: number;
  /** The bytes of manifests, configs and layers that the second snapshot has and the first does not. Absent: compared with the registry. */
  readonly newBytes?: number;
  readonly notBackedUp: readonly NotBackedUp[];
  /** What no backup rule of the rules file selects. Absent: there is no rules file. */
  readonly notCovered?: readonly ImageName[];
}

/** Two snapshots of one place, or one and the registry now. */
export interface DiffSnapshotsRequest {
  readonly place: BackupPlace;
  /** As `Snapshots.read` finds it. */
  readonly a: string;
  /** The same, or `now`: the registry of the first snapshot as it is. */
  readonly b: string;
  /** Which of the images of a registry's repository no rule selects. */
  readonly notCovered?:
    ((registry: string, repository: string, images: readonly RegistryImage[]) => readonly ImageName[]) | undefined;
}

/**
 * Compares two snapshots of a place, or one with its registry as it is now: what is new, what was moved to another image, what was deleted, and what
 * is not backed up: of a snapshot what failed and what was archived, of the registry what the state of the place does not have. A registry is listed,
 * and no image of it read. NOT_FOUND, INVALID and CORRUPT as `Snapshots.read`.
 */
export async function diffSnapshots(
  request: DiffSnapshotsRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<SnapshotsDiff> {
  const { snapshots } = await openBackups(request.place, backends, options);
  const first = await snapshots.read(request.a, options);
  const before = recordedIn(first.snapshot);
  const { host } = first.snapshot.registry;
  if (request.b === 'now') {
    const state = await readState(snapshots, { ...options, registry: host });
    const inside = new Set(
      state.repositories.flatMap((one) => one.images.flatMap((image) => image.content.map(({ digest }) => digest))),
    );
    // ECR lists the children of an index as images without a tag
    const images = (await imagesNow(first.snapshot, backends, options)).filter(
      (image) =>
        isImageName(image) && (image.tag !== undefined || before.names.has(keyOf(image)) || !inside.has(image.digest)),
    );
    const now: Recorded = { names: new Map(images.map((image) => [keyOf(image), image])), knows: () => true };
    // a registry lists no tags of cosign without their image
    const imagesBefore = new Map([...before.names].filter(([, recorded]) => isImageName(recorded)));
    return {
      a: first.name.id,
      b: 'now',
      registry: host,
      ...compared({ ...before, names: imagesBefore }, now),
      notBackedUp: missingIn(state.repositories, images),
      ...(request.notCovered === undefined ? {} : { notCovered: uncovered(host, images, request.notCovered) }),
    };
  }
  const second = await snapshots.read(request.b, options);
  const known = new Set(first.snapshot.content.map(({ digest }) => digest));
  const newBytes = second.snapshot.content.reduce((sum, { digest, size }) => sum + (known.has(digest) ? 0 : size), 0);
  const images = imagesIn(second.snapshot);
  return {
    a: first.name.id,
    b: second.name.id,
    registry: second.snapshot.registry.host,
    ...compared(before, recordedIn(second.snapshot)),
    newBytes,
    notBackedUp: failedIn(second.snapshot),
    ...(request.notCovered === undefined
      ? {}
      : { notCovered: uncovered(second.snapshot.registry.host, images, request.notCovered) }),
  };
}

function isImageName({ tag }: Pick<ImageName, 'tag'>): boolean {
  return tag === undefined || !isDerivedTag(tag);
}

function compared(a: Recorded, b: Recorded): Pick<SnapshotsDiff, 'changes' | 'same'> {
  const changes = changesBetween(a, b);
  let same = 0;
  for (const [key, { digest }] of b.names) same += Number(a.names.get(key)?.digest === digest);
  same -= changes.filter(({ kind }) => kind === 'referrers').length;
  return { changes, same };
}

/** What the registry of a snapshot has now, of what the snapshot was asked for. Not what refers to images. */
async function imagesNow(
  { registry, scope }: Snapshot,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly RegistryImage[]> {
  const tags = scope.tags === undefined ? '' : `:${scope.tags}`;
  const place = parsePlace(`${registry.host}/${scope.repositories}${tags}`);
  const images: RegistryImage[] = [];
  for await (const entry of listPlace(place, backends, { ...options, untagged: scope.untagged && tags === '' })) {
    const { repository, tag, digest, pushedAt, isChild } = entry;
    if (digest === undefined || isChild === true) continue;
    const pushedAtMs = pushedAt === undefined ? undefined : Date.parse(pushedAt);
    images.push({ repository, ...(tag === undefined ? {} : { tag }), digest, pushedAtMs });
  }
  return images;
}

function imagesIn({ repositories }: Snapshot): readonly RegistryImage[] {
  return repositories.flatMap(({ name: repository, images }) =>
    images.flatMap(({ digest, tags, pushedAt }) => {
      const about = { repository, digest, pushedAtMs: pushedAt === undefined ? undefined : Date.parse(pushedAt) };
      return tags.length === 0
        ? [about]
        : tags.map((tag) => ({ repository, tag, digest, pushedAtMs: about.pushedAtMs }));
    }),
  );
}

function failedIn({ repositories, failures }: Snapshot): readonly NotBackedUp[] {
  const failed = failures.map(({ repository = '', tag, digest, reason }) => ({
    repository,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
    reason,
  }));
  const archived = repositories.flatMap(({ name, images }) =>
    images.flatMap(({ digest, tags, archived: isArchived }) =>
      isArchived === true
        ? [{ repository: name, ...(tags[0] === undefined ? {} : { tag: tags[0] }), digest, reason: ARCHIVED }]
        : [],
    ),
  );
  return [...failed, ...archived].sort((x, y) => compareStrings(keyOf(x), keyOf(y)));
}

const ARCHIVED = 'it is in the archive storage class: back up with --include-archived';

/** What the registry has and the state of the place does not. */
function missingIn(
  repositories: Awaited<ReturnType<typeof readState>>['repositories'],
  images: readonly RegistryImage[],
): readonly NotBackedUp[] {
  const found = new Map<string, Digest>();
  const reasons = new Map<string, string>();
  for (const { name: repository, images: stored, failures } of repositories) {
    for (const { tag, digest, reason } of failures)
      reasons.set(
        keyOf({ repository, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) }),
        reason,
      );
    for (const { digest, tags, archived } of stored) {
      const names = tags.length === 0 ? [{ repository, digest }] : tags.map((tag) => ({ repository, tag }));
      for (const name of names) {
        if (archived === true) reasons.set(keyOf(name), ARCHIVED);
        else found.set(keyOf(name), digest);
      }
    }
  }
  return images.flatMap(({ repository, tag, digest }) => {
    const name = { repository, ...(tag === undefined ? {} : { tag }), digest };
    const key = keyOf(name);
    if (found.get(key) === digest) return [];
    const older = found.has(key) ? 'the backups have an older image of this tag' : 'no backup has it';
    return [{ ...name, reason: reasons.get(key) ?? older }];
  });
}

function uncovered(
  registry: string,
  images: readonly RegistryImage[],
  notCovered: NonNullable<DiffSnapshotsRequest['notCovered']>,
): readonly ImageName[] {
  const byRepository = Map.groupBy(images, ({ repository }) => repository);
  return [...byRepository].flatMap(([repository, some]) => notCovered(registry, repository, some));
}
