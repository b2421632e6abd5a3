import { cosignSubject } from '../oci/derived-tag.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure, isFailure, onSide } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { collectFaults, type Faults } from './faults.ts';
import { writeSettings } from './store-settings.ts';
import { isPattern, type ImagePattern, type Location } from '../oci/location.ts';
import { ArchivesDraft } from './archives-draft.ts';
import type { ImageCopyRequest } from './copy-image.ts';
import { parseRegistryImages } from './list-repositories.ts';
import { storePlace } from './open-place.ts';
import { settingsFact } from './registry-facts.ts';
import { isStore } from '../store/format.ts';
import type { SnapshotName } from '../store/snapshots.ts';
import { BackupOfArchived, copyPlanned } from './backup-archived.ts';
import type { ItemResult, BatchResult } from './copy-images.ts';

import {
  parseTemplateTarget,
  planBackup,
  type BackupPlan,
  type BackupRequest,
  type Planning,
  type TemplateTarget,
} from './backup-plan.ts';

export type { BackupRequest } from './backup-plan.ts';

/** What became of the images, and the snapshot that lists them. */
export interface BackupResult extends BatchResult {
  readonly snapshot?: SnapshotName;
}

/**
 * Writes every image that `from` stands for as an archive, and beside the archives the settings of their repository, where the registry has
 * some. Images that are backed up already cost no layer. One failure does not stop the others. Tags of cosign come along with the image they
 * are about. A warning lists those that are about none of the images, as is usual once a tag was moved. There is a snapshot unless every image
 * failed; one that could not be written is a fault.
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
  const { storageClasses } = backends.registry(pattern.registry, 'source');
  const isRestoring = request.includeArchived === true && request.dryRun !== true && storageClasses !== undefined;
  await using archived = isRestoring ? new BackupOfArchived(pattern.registry, target.place, backends) : undefined;
  const planning = { request, pattern, target, faults, draft, archived };
  const plan = await planBackup(planning, backends, options);
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
  await onSide('target', checkNoStore(target, request.to, backends, options));
  const items = await copyPlanned(plan, backends, options);
  if (request.dryRun !== true) await writeAllSettings(items, planning, plan, backends, options);
  warnOfLeftOut(plan.cosign, requests, items, request, options);
  const result = { items, faults: faults.messages };
  // a snapshot of failures alone has nothing to restore
  const isFruitless = items.length > 0 && plan.archived === 0 && items.every(({ outcome }) => outcome === 'failed');
  if (draft === undefined || isFruitless) return result;
  addFailures(draft, plan, result);
  try {
    return { ...result, snapshot: await draft.finish(backends, options) };
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    // the archives are there all the same
    faults.add(`no snapshot was written: ${describeFailure(error)}`);
    return { items, faults: faults.messages };
  }
}

/** Throws INVALID where the archives would be in a store, whose garbage collection does not know archives. */
async function checkNoStore(
  { place: { root } }: TemplateTarget,
  to: string,
  backends: Backends,
  options: OperationOptions,
): Promise<void> {
  const place = storePlace(root, backends);
  if (!(await isStore(place, options))) return;
  throw new Failure(
    'INVALID',
    `${quote(to)} is in a store: write ${place.location} to back up into it, or choose another prefix for archives`,
  );
}

/** Writes the settings of each repository of which an archive is there. */
async function writeAllSettings(
  items: readonly ItemResult[],
  { request, pattern, target, faults }: Planning,
  plan: BackupPlan,
  backends: Backends,
  options: OperationOptions,
): Promise<void> {
  // beside archives that could not be written may be those of another repository, and its settings
  const written = new Set(
    items.map((item, at) => (item.outcome === 'failed' ? undefined : repositoryOf(plan.requests[at]))),
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

/** Names in the snapshot what failed. */
function addFailures(draft: ArchivesDraft, { requests, named }: BackupPlan, { items, faults }: BatchResult): void {
  for (const [index, { failure }] of items.entries()) {
    const from = requests[index]?.from;
    if (failure === undefined || from?.transport !== 'docker') continue;
    const { repository, tag, digest } = from.reference;
    const which = { ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
    draft.failure({ repository, ...which, reason: describeFailure(failure) });
  }
  for (const [index, reason] of faults.entries()) if (!named.has(index)) draft.failure({ reason });
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
