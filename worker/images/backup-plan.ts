import { posix } from 'node:path';
import type { Source } from '../content/content.ts';
import { SETTINGS_NAME } from '../oci/archive-key.ts';
import { cosignSubject, isReferrersTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { isTag, type Reference, type Repository } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, isFailure, onSide } from '../util/failure.ts';
import { append } from '../util/lists.ts';
import { quote } from '../util/text.ts';
import type { ArchivedInRepository, BackupOfArchived, UnchangedArchive } from './backup-archived.ts';
import type { Backends, ListedImage, OperationOptions, Registry } from './backends.ts';
import type { Faults } from './faults.ts';
import { digestOfSettings, settingsIn, settingsReader, type SettingsReader } from './store-settings.ts';
import { archiveTemplate, expandTemplate } from '../oci/key-template.ts';
import {
  isPattern,
  isStandardOutput,
  matchesPattern,
  parseS3,
  type ImagePattern,
  type Location,
} from '../oci/location.ts';
import { archivesPlace, type ArchivesDraft, type ArchivesPlace } from './archives-draft.ts';
import type { ImageChoices, ImageCopyRequest, WrittenWhole } from './copy-image.ts';
import { readEcrInventory } from './inventory-ecr.ts';
import { isListOfReferrers } from './list-of-referrers.ts';
import { repositoriesOf } from './list-repositories.ts';
import type { SettingsFact } from './registry-facts.ts';
import type { Item } from '../retention/inventory.ts';
import { optional } from '../util/optional.ts';

/** What of a registry is backed up, and where its archives go. */
export interface BackupRequest extends ImageChoices {
  /** `[docker://]host/repository[:tag]`, each with `*` and `{a,b}`; without a tag all tags. */
  readonly from: string;
  /** `s3://bucket[/template]`, or `oci-archive:` with a file's path as a template. Ending in `/`, the default template follows. */
  readonly to: string;
  /** Also images of ECR without a tag that no index lists and that refer to nothing: under the tag `sha256-<hex>` of the template. Default false. */
  readonly untagged?: boolean | undefined;
  /**
   * Whether images in ECR's archive storage class are backed up too. Each is restored, copied and archived again, unless the last snapshot that has
   * it shows that its archive is up to date. Default false: they are listed as archived.
   */
  readonly includeArchived?: boolean | undefined;
  /** The program that writes a snapshot of what was backed up, such as `transship 0.1.0`. Absent: none is written. */
  readonly snapshotBy?: string | undefined;
}

/** The settings of a repository, which are stored and which its archives name: one document for both. */
interface OwnSettings {
  readonly repository: string;
  readonly read: SettingsReader;
}

/** What a backup is about to do. `planBackup` fills it repository by repository. */
export interface BackupPlan {
  readonly requests: ImageCopyRequest[];
  /** As `PlannedCopies` has them. */
  readonly during: Map<ImageCopyRequest, (work: () => Promise<void>) => Promise<void>>;
  readonly unchanged: Map<ImageCopyRequest, UnchangedArchive>;
  /** Repositories whose settings are stored, by the key of the settings. */
  readonly settings: Map<string, OwnSettings>;
  /** The tags of cosign by repository, where every tag was asked for. */
  readonly cosign: Map<string, readonly string[]>;
  /** Why the first of the repositories that were left out could not be listed. */
  failed: Failure | undefined;
  /** Images in ECR's archive storage class, which are listed in the snapshot alone. */
  archived: number;
  /** Which of the faults are in the snapshot with their repository. */
  readonly named: Set<number>;
}

/** What a plan is made for. */
export interface Planning {
  readonly request: BackupRequest;
  readonly pattern: ImagePattern;
  readonly target: TemplateTarget;
  readonly faults: Faults;
  readonly draft: ArchivesDraft | undefined;
  /** Undefined where archived images are only listed. */
  readonly archived: BackupOfArchived | undefined;
}

/** The plan of a backup. A repository that cannot be listed is left out where the pattern names several. */
export async function planBackup(
  planning: Planning,
  backends: Backends,
  options: OperationOptions,
): Promise<BackupPlan> {
  const { pattern, faults, draft } = planning;
  const plan: BackupPlan = {
    requests: [],
    during: new Map(),
    unchanged: new Map(),
    settings: new Map(),
    cosign: new Map(),
    failed: undefined,
    archived: 0,
    named: new Set(),
  };
  const onStrange = (message: string): void => faults.add(message);
  const listing = repositoriesOf({ pattern }, backends, { ...options, side: 'source', onStrange });
  for (const repository of await onSide('source', listing)) {
    try {
      await planRepository(repository, planning, plan, backends, options);
    } catch (error) {
      checkAborted(options);
      // a registry lists repositories that are gone, or were never finished: the others are backed up
      if (!isFailure(error) || error.code === 'INVALID' || !isPattern(pattern.repository)) throw error;
      plan.failed ??= error;
      draft?.repository(repository, {}, false);
      draft?.failure({ repository, reason: describeFailure(error) });
      plan.named.add(faults.messages.length);
      faults.add(`${repository} was not backed up: ${describeFailure(error)}`);
    }
  }
  return plan;
}

/** Adds the images of one repository to the plan, and what the registry lists of them to the draft. */
async function planRepository(
  repository: string,
  planning: Planning,
  plan: BackupPlan,
  backends: Backends,
  options: OperationOptions,
): Promise<void> {
  const { request, pattern, target, faults, draft } = planning;
  const registry = backends.registry(pattern.registry, 'source');
  const name = { registry: pattern.registry, repository };
  const tags = await tagsOf(registry, repository, pattern.tag, faults, options);
  if (pattern.tag === undefined) plan.cosign.set(repository, tags.cosign);
  const rows = await rowsOf(registry, repository, planning, options);
  const archived =
    rows.length === 0 ? undefined : await planning.archived?.repository(registry, repository, rows, options);
  const isLeftOut = new Set(rows.flatMap((row) => (archived !== undefined || row.status === 'ACTIVE' ? [] : row.tags)));
  const untagged = request.untagged === true ? await untaggedIn(registry, name, options) : [];
  const wanted = [
    ...tags.images.flatMap((tag) => (isLeftOut.has(tag) ? [] : { tag })),
    ...untagged.map((digest) => ({ digest })),
  ];
  const onWritten = draft === undefined ? undefined : (image: WrittenWhole): void => draft.written(image);
  const rowOf = new Map(rows.flatMap((row) => [row.digest, ...row.tags].map((one) => [one, row])));
  let beside: string | undefined;
  const found: UnchangedArchive[] = [];
  for (const which of wanted) {
    const reference: Reference = { ...name, ...which };
    const row = rowOf.get('tag' in which ? which.tag : which.digest);
    const digest = reference.digest ?? row?.digest;
    const key = await keyOf(target.template, { ...reference, digest }, registry, options);
    const place = posix.join(posix.dirname(key), SETTINGS_NAME);
    beside ??= place;
    const settingsDigest = async (): Promise<Digest | undefined> => digestAt(place, repository, plan, options);
    const from = { transport: 'docker', reference } as const;
    const copying = { ...request, from, to: target.locate(key), settingsDigest, onWritten };
    plan.requests.push(copying);
    if (row !== undefined && archived?.isArchived(row.digest) === true)
      append(found, await planArchived(copying, row.digest, archived, plan, options));
  }
  const read = settingsReader(name, backends, options);
  const owner = beside === undefined ? undefined : plan.settings.get(beside);
  if (draft !== undefined) {
    const onFailure = (reason: string): void => {
      // where settings are written beside archives too, that write reports why they cannot be read
      if (beside !== undefined && owner === undefined) return;
      plan.named.add(faults.messages.length);
      draft.failure({ repository, reason });
      faults.add(reason);
    };
    draft.repository(repository, await readFact(repository, read, onFailure, options), true);
    const asked = new Set(tags.images.filter((tag) => isLeftOut.has(tag)));
    for (const row of rows) plan.archived += draft.row(repository, row, asked);
    for (const { image, archive } of found) draft.unchanged(repository, image, archive);
  }
  if (beside === undefined) return;
  if (owner === undefined) plan.settings.set(beside, { repository, read });
  else faults.add(samePlace(repository, owner.repository, request.to));
}

/** The digest of the settings at `place`, where they belong to the repository. */
async function digestAt(
  place: string,
  repository: string,
  { settings }: BackupPlan,
  options: OperationOptions,
): Promise<Digest | undefined> {
  const own = settings.get(place);
  return own?.repository === repository ? digestOfSettings(own.read, options) : undefined;
}

function samePlace(repository: string, owner: string, to: string): string {
  return `settings of ${repository} were not backed up: those of ${owner} have the same place; put {repository} before a slash in ${quote(to)}`;
}

/** Plans the copy of an archived image: while it is restored, or not at all. Returns the image where its archive is up to date. */
async function planArchived(
  copying: ImageCopyRequest,
  digest: Digest,
  archived: ArchivedInRepository,
  plan: BackupPlan,
  options: OperationOptions,
): Promise<readonly UnchangedArchive[]> {
  const unchanged = copying.force === true ? undefined : await archived.unchanged(digest, copying.to, options);
  if (unchanged === undefined) {
    plan.during.set(copying, async (work) => archived.during(digest, work));
    return [];
  }
  plan.unchanged.set(copying, unchanged);
  return [unchanged];
}

/** Where archives go. */
export interface TemplateTarget {
  readonly template: string;
  /** Where the archives and their snapshots are. */
  readonly place: ArchivesPlace;
  locate(key: string): Exclude<Location, { transport: 'docker' | 'store' }>;
}

/** Reads where archives go: `s3://bucket[/template]`, or `oci-archive:` with a template. INVALID otherwise. */
export function parseTemplateTarget(to: string): TemplateTarget {
  if (to.startsWith('s3://')) {
    const { bucket, key } = parseS3(to);
    const template = archiveTemplate(key);
    return {
      template,
      place: archivesPlace(template, bucket),
      locate: (expanded) => ({ transport: 's3', bucket, key: expanded }),
    };
  }
  const path = to.startsWith('oci-archive:') ? to.slice('oci-archive:'.length) : undefined;
  if (path === undefined || path === '') {
    throw new Failure(
      'INVALID',
      `${quote(to)} is not a place for archives: expected s3://bucket/template or oci-archive:path/template`,
    );
  }
  if (isStandardOutput(path))
    throw new Failure('INVALID', 'backup writes to files, not to standard output: use transship copy for one image');
  const template = archiveTemplate(path);
  return {
    template,
    place: archivesPlace(template, undefined),
    locate: (expanded) => ({ transport: 'archive', path: expanded }),
  };
}

/** What ECR lists of a repository. Empty where the registry has no such list, refuses it, or where it is not needed. */
async function rowsOf(
  { images }: Registry,
  repository: string,
  { pattern: { tag }, draft, archived }: Planning,
  options: OperationOptions,
): Promise<readonly ListedImage[]> {
  const rows: ListedImage[] = [];
  const isNeeded = archived !== undefined || (draft !== undefined && (tag === undefined || isPattern(tag)));
  if (images === undefined || !isNeeded) return rows;
  try {
    for await (const row of images(repository, options)) rows.push(row);
    return rows;
  } catch (error) {
    if (!isFailure(error, 'DENIED')) throw atSide('source', error);
    const message = `the snapshot does not say when images of ${repository} were pushed: ${describeFailure(error)}`;
    options.report?.({ type: 'warning', message });
    return [];
  }
}

/** Images without a tag that no index lists and that refer to nothing. */
async function untaggedIn(
  { images, manifests }: Registry,
  { registry: host, repository }: Repository,
  options: OperationOptions,
): Promise<readonly Digest[]> {
  if (images === undefined || manifests === undefined) {
    const message = `images of ${repository} without a tag are not backed up: ${host} does not list them`;
    options.report?.({ type: 'warning', message });
    return [];
  }
  const { items } = await onSide('source', readEcrInventory({ images, manifests }, { host, repository }, options));
  const below = new Set(items.flatMap(({ children }) => children));
  const isImage = ({ tags, subject, digest }: Item): boolean =>
    tags.length === 0 && subject === undefined && digest !== undefined && !below.has(digest);
  return items.filter(isImage).flatMap(({ digest }) => digest ?? []);
}

/** The settings in the document that `read` reads. A failure goes to `onFailure`, but for a refusal: images may be read without their settings. */
async function readFact(
  repository: string,
  read: SettingsReader,
  onFailure: (reason: string) => void,
  options: OperationOptions,
): Promise<SettingsFact> {
  try {
    const document = await read();
    return document === undefined ? {} : optional('settings', settingsIn(document));
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    if (!isFailure(error, 'DENIED', 'UNSUPPORTED'))
      onFailure(`settings of ${repository} were not backed up: ${describeFailure(error)}`);
    return {};
  }
}

/** The tags of the images that are backed up, and where every tag was listed those of cosign, which come along with the image they are about. */
async function tagsOf(
  registry: Registry,
  repository: string,
  pattern: string | undefined,
  faults: Faults,
  options: OperationOptions,
): Promise<{ readonly images: readonly string[]; readonly cosign: readonly string[] }> {
  if (pattern !== undefined && !isPattern(pattern)) {
    if (!isTag(pattern)) throw new Failure('INVALID', `${quote(pattern)} is not a tag`);
    return { images: [pattern], cosign: [] };
  }
  const images: string[] = [];
  const cosign: string[] = [];
  const source = registry.repository(repository);
  try {
    for await (const tag of source.tags({ ...options, all: true })) {
      if (cosignSubject(tag) !== undefined) cosign.push(tag);
      else if (pattern !== undefined && !matchesPattern(pattern, tag)) continue;
      else if (!isTag(tag))
        faults.add(`${repository} lists ${quote(tag)}, which cannot be a tag: it was not backed up`);
      else if (!isReferrersTag(tag) || (await namesImage(tag, source, options))) images.push(tag);
    }
  } catch (error) {
    throw atSide('source', error);
  }
  return { images: images.sort(), cosign: cosign.sort() };
}

/** Whether a tag that looks like that of a list of referrers names an image. True where that cannot be found out: the backup of the tag reports why. */
async function namesImage(tag: string, source: Source, options: OperationOptions): Promise<boolean> {
  try {
    return !(await isListOfReferrers(tag, await source.resolve(tag, options), source, options));
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    return error.code !== 'NOT_FOUND';
  }
}

async function keyOf(
  template: string,
  reference: Reference,
  registry: Registry,
  options: OperationOptions,
): Promise<string> {
  // only a key by digest has to ask what the tag stands for before the copy does
  const { repository, tag = 'latest', digest } = reference;
  const asked = digest === undefined && template.includes('{digest}');
  const found = asked ? (await registry.repository(repository).resolve(tag, options)).digest : digest;
  return expandTemplate(template, reference, found, new Date(options.clock.now()));
}
