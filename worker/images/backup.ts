import { posix } from 'node:path';
import { SETTINGS_NAME } from '../oci/archive-key.ts';
import { cosignSubject, isDerivedTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { isTag, type Reference, type Repository } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, isFailure, onSide } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Backends, ListedImage, OperationOptions, Registry } from './backends.ts';
import { collectFaults, type Faults } from './faults.ts';
import { digestOfSettings, parsedJson, settingsReader, writeSettings, type SettingsReader } from './store-settings.ts';
import { archiveTemplate, expandTemplate } from '../oci/key-template.ts';
import {
  isPattern,
  isStandardOutput,
  matchesPattern,
  parseS3,
  type ImagePattern,
  type Location,
} from '../oci/location.ts';
import { ArchivesDraft, archivesPlace, type ArchivesPlace } from './archives-draft.ts';
import type { ImageChoices, ImageCopyRequest, WrittenWhole } from './copy-image.ts';
import { readEcrInventory } from './inventory-ecr.ts';
import { parseRegistryImages, repositoriesOf } from './list-repositories.ts';
import { settingsFact, type SettingsFact } from './registry-facts.ts';
import type { Item } from '../retention/inventory.ts';
import type { SnapshotName } from '../store/snapshots.ts';
import { isRecord } from '../util/record.ts';
import { copyImages, type ItemResult, type BatchResult } from './copy-images.ts';

export interface BackupRequest extends ImageChoices {
  /** `[docker://]host/repository[:tag]`, each with `*` and `{a,b}`; without a tag all tags. */
  readonly from: string;
  /** `s3://bucket[/template]`, or `oci-archive:` with a file's path as a template. Ending in `/`, the default template follows. */
  readonly to: string;
  /** Also images of ECR without a tag that no index lists and that refer to nothing: under the tag `sha256-<hex>` of the template. Default false. */
  readonly untagged?: boolean | undefined;
  /** The program that writes a snapshot of what was backed up, such as `transship 0.1.0`. Absent: none is written. */
  readonly snapshotBy?: string | undefined;
}

/** What became of the images, and the snapshot that lists them. */
export interface BackupResult extends BatchResult {
  readonly snapshot?: SnapshotName;
}

/**
 * Writes every image that `from` stands for as an archive, and beside the archives the settings of their repository, where the registry has
 * some. Images that are backed up already cost no layer. One failure does not stop the others. Tags of cosign come along with the image they
 * are about. A warning lists those that are about none of the images, as is usual once a tag was moved.
 */
export async function backup(
  request: BackupRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<BackupResult> {
  const startedAt = new Date(options.clock.now()).toISOString();
  const pattern = parseRegistryImages(request.from);
  const target = parseTemplateTarget(request.to);
  const faults = collectFaults(options.report);
  const draft = await openDraft(request, pattern, target, startedAt, faults, backends, options);
  const plan = await planBackup({ request, pattern, target, faults, draft }, backends, options);
  const { requests } = plan;
  if (requests.length === 0 && plan.failed !== undefined) throw plan.failed;
  checkDistinct(
    requests.map(({ to }) => to),
    request.to,
  );
  if (requests.length === 0 && (draft === undefined || plan.archived === 0)) {
    warnOfLeftOut(plan.cosign, requests, [], request, options);
    throw new Failure('NOT_FOUND', `no image matches ${request.from}`, { context: { side: 'source' } });
  }
  const items = await copyImages(requests, backends, options);
  if (request.dryRun !== true) {
    // beside archives that could not be written may be those of another repository, and its settings
    const written = new Set(
      items.map((item, at) => (item.outcome === 'failed' ? undefined : repositoryOf(requests[at]))),
    );
    for (const [key, { repository, read }] of plan.settings) {
      if (!written.has(repository)) continue;
      try {
        const { force } = request;
        const document = await read();
        if (document === undefined) continue;
        await writeSettings(
          { repository: { registry: pattern.registry, repository }, to: target.locate(key), force },
          document,
          backends,
          options,
        );
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        const message = `settings of ${repository} were not backed up: ${describeFailure(error)}`;
        // credentials that read images may lack the permission to read settings
        if (error.code === 'DENIED') options.report?.({ type: 'warning', message });
        else faults.add(message);
      }
    }
  }
  warnOfLeftOut(plan.cosign, requests, items, request, options);
  if (draft === undefined) return { items, faults: faults.messages };
  for (const [index, { failure }] of items.entries()) {
    const from = requests[index]?.from;
    if (failure === undefined || from?.transport !== 'docker') continue;
    const { repository, tag, digest } = from.reference;
    const which = { ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
    draft.failure({ repository, ...which, reason: describeFailure(failure) });
  }
  for (const [index, reason] of faults.messages.entries()) if (!plan.named.has(index)) draft.failure({ reason });
  return { items, faults: faults.messages, snapshot: await draft.finish(backends, options) };
}

/** The draft of the snapshot. Undefined where none is written. */
async function openDraft(
  request: BackupRequest,
  pattern: ImagePattern,
  { place }: TemplateTarget,
  startedAt: string,
  faults: Faults,
  backends: Backends,
  options: OperationOptions,
): Promise<ArchivesDraft | undefined> {
  const { snapshotBy: tool, dryRun, referrers = true, platforms = [], untagged = false } = request;
  if (tool === undefined || dryRun === true) return undefined;
  // a key that cannot sign is found before anything is copied
  await backends.snapshotKeys?.signer?.publicKey(options);
  const registry = backends.registry(pattern.registry, 'source');
  const settings = !isPattern(pattern.repository)
    ? {}
    : await settingsFact(
        pattern.registry,
        async () => registry.registrySettings(options),
        (reason) => faults.add(reason),
        options,
      );
  const scope = { untagged: untagged && registry.images !== undefined, referrers, platforms };
  return new ArchivesDraft({ tool, startedAt, pattern, scope, settings, place });
}

/** The settings of a repository, which are stored and which its archives name: one document for both. */
interface OwnSettings {
  readonly repository: string;
  readonly read: SettingsReader;
}

interface BackupPlan {
  readonly requests: readonly ImageCopyRequest[];
  /** Repositories whose settings are stored, by the key of the settings. */
  readonly settings: ReadonlyMap<string, OwnSettings>;
  /** The tags of cosign by repository, where every tag was asked for. */
  readonly cosign: ReadonlyMap<string, readonly string[]>;
  /** Why the first of the repositories that were left out could not be listed. */
  readonly failed: Failure | undefined;
  /** Images in ECR's archive storage class, which are listed in the snapshot alone. */
  readonly archived: number;
  /** Which of the faults are in the snapshot with their repository. */
  readonly named: ReadonlySet<number>;
}

interface Planning {
  readonly request: BackupRequest;
  readonly pattern: ImagePattern;
  readonly target: TemplateTarget;
  readonly faults: Faults;
  readonly draft: ArchivesDraft | undefined;
}

/** The plan of a backup. A repository that cannot be listed is left out where the pattern names several. */
async function planBackup(
  { request, pattern, target, faults, draft }: Planning,
  backends: Backends,
  options: OperationOptions,
): Promise<BackupPlan> {
  const registry = backends.registry(pattern.registry, 'source');
  const requests: ImageCopyRequest[] = [];
  const settings = new Map<string, OwnSettings>();
  const cosign = new Map<string, readonly string[]>();
  let failed: Failure | undefined;
  let archived = 0;
  const named = new Set<number>();
  const onWritten = (image: WrittenWhole): void => draft?.written(image);
  const onStrange = (message: string): void => faults.add(message);
  const listing = repositoriesOf({ pattern }, backends, { ...options, side: 'source', onStrange });
  for (const repository of await onSide('source', listing)) {
    try {
      let beside: string | undefined;
      const tags = await tagsOf(registry, repository, pattern.tag, faults, options);
      if (pattern.tag === undefined) cosign.set(repository, tags.cosign);
      const rows = draft === undefined ? [] : await rowsOf(registry, repository, pattern.tag, options);
      const isArchived = new Set(rows.flatMap((row) => (row.status === 'ACTIVE' ? [] : row.tags)));
      const untagged =
        request.untagged === true
          ? await untaggedIn(registry, { registry: pattern.registry, repository }, options)
          : [];
      const wanted = [
        ...tags.images.flatMap((tag) => (isArchived.has(tag) ? [] : { tag })),
        ...untagged.map((digest) => ({ digest })),
      ];
      for (const which of wanted) {
        const reference: Reference = { registry: pattern.registry, repository, ...which };
        const key = await keyOf(target.template, reference, registry, options);
        const place = posix.join(posix.dirname(key), SETTINGS_NAME);
        beside ??= place;
        const settingsDigest = async (): Promise<Digest | undefined> => {
          const own = settings.get(place);
          return own?.repository === repository ? digestOfSettings(own.read, options) : undefined;
        };
        requests.push({
          ...request,
          from: { transport: 'docker', reference },
          to: target.locate(key),
          settingsDigest,
          onWritten,
        });
      }
      const read = settingsReader({ registry: pattern.registry, repository }, backends, options);
      if (draft !== undefined) {
        draft.repository(repository, await readFact(read, options), true);
        const asked = new Set(tags.images);
        for (const row of rows) archived += draft.row(repository, row, asked);
      }
      if (beside === undefined) continue;
      const owner = settings.get(beside);
      if (owner === undefined) settings.set(beside, { repository, read });
      else {
        faults.add(
          `settings of ${repository} were not backed up: those of ${owner.repository} have the same place; put {repository} before a slash in ${quote(request.to)}`,
        );
      }
    } catch (error) {
      checkAborted(options);
      // a registry lists repositories that are gone, or were never finished: the others are backed up
      if (!isFailure(error) || error.code === 'INVALID' || !isPattern(pattern.repository)) throw error;
      failed ??= error;
      draft?.repository(repository, {}, false);
      draft?.failure({ repository, reason: describeFailure(error) });
      named.add(faults.messages.length);
      faults.add(`${repository} was not backed up: ${describeFailure(error)}`);
    }
  }
  return { requests, settings, cosign, failed, archived, named };
}

/** Warns of tags of cosign that are about none of the images that are backed up: nothing brings them along. */
function warnOfLeftOut(
  cosign: ReadonlyMap<string, readonly string[]>,
  requests: readonly ImageCopyRequest[],
  items: readonly ItemResult[],
  request: BackupRequest,
  options: OperationOptions,
): void {
  // they were not asked for, or are about an index that a choice of platforms replaced
  if (request.referrers === false || (request.platforms ?? []).length > 0) return;
  for (const [repository, tags] of cosign) {
    const images = items.filter((_, index) => repositoryOf(requests[index]) === repository);
    // what belongs to an image that failed is not known, and its failure is reported
    if (images.some((item) => item.result === undefined)) continue;
    const known = new Set(images.flatMap((item) => item.result?.manifests ?? []));
    const left = tags.filter((tag) => {
      const subject = cosignSubject(tag);
      return subject !== undefined && !known.has(subject);
    });
    if (left.length === 0) continue;
    const some = left.slice(0, 3).join(', ') + (left.length > 3 ? ', …' : '');
    const message = `${repository}: ${left.length} of the tags of cosign are about no image that has a tag, and are not backed up: ${some}`;
    options.report?.({ type: 'warning', message });
  }
}

function repositoryOf(request: ImageCopyRequest | undefined): string | undefined {
  return request?.from.transport === 'docker' ? request.from.reference.repository : undefined;
}

interface TemplateTarget {
  readonly template: string;
  /** Where the archives and their snapshots are. */
  readonly place: ArchivesPlace;
  locate(key: string): Exclude<Location, { transport: 'docker' | 'store' }>;
}

function parseTemplateTarget(to: string): TemplateTarget {
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
      `${quote(to)} is no place for archives: expected s3://bucket/template or oci-archive:path/template`,
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

/** What ECR lists of a repository. Nothing where the registry has no such list, may not be asked for it, or one tag alone is meant. */
async function rowsOf(
  { images }: Registry,
  repository: string,
  pattern: string | undefined,
  options: OperationOptions,
): Promise<readonly ListedImage[]> {
  const rows: ListedImage[] = [];
  if (images === undefined || (pattern !== undefined && !isPattern(pattern))) return rows;
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

/** The settings in the document that `read` reads. Nothing where it cannot be read, which is reported when it is to be written. */
async function readFact(read: SettingsReader, options: OperationOptions): Promise<SettingsFact> {
  try {
    const document = parsedJson((await read())?.toString() ?? '');
    const settings = isRecord(document) ? document['settings'] : undefined;
    return isRecord(settings) ? { settings } : {};
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    return {};
  }
}

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
  try {
    for await (const tag of registry.repository(repository).tags(options)) {
      // what refers to an image comes along with it
      if (cosignSubject(tag) !== undefined) cosign.push(tag);
      if (isDerivedTag(tag) || (pattern !== undefined && !matchesPattern(pattern, tag))) continue;
      if (isTag(tag)) images.push(tag);
      else faults.add(`${repository} lists ${quote(tag)}, which cannot be a tag: it was not backed up`);
    }
  } catch (error) {
    throw atSide('source', error);
  }
  return { images: images.sort(), cosign: cosign.sort() };
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

function checkDistinct(locations: readonly Location[], template: string): void {
  const keys = new Set<string>();
  for (const location of locations) {
    const key = location.transport === 's3' ? location.key : location.transport === 'archive' ? location.path : '';
    if (keys.has(key)) {
      throw new Failure(
        'INVALID',
        `${quote(template)} gives ${key} for more than one image: put {repository} and {tag} in it`,
      );
    }
    keys.add(key);
  }
}
