import { posix } from 'node:path';
import { SETTINGS_NAME } from '../oci/archive-key.ts';
import { cosignSubject, isDerivedTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { isRepositoryName, isTag, type Reference } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions, Registry } from './backends.ts';
import { collectFaults, type Faults } from './faults.ts';
import { digestOfSettings, settingsReader, writeSettings, type SettingsReader } from './store-settings.ts';
import { archiveTemplate, expandTemplate } from '../oci/key-template.ts';
import {
  isPattern,
  isStandardOutput,
  matchesPattern,
  parseImagePattern,
  parseS3,
  type ImagePattern,
  type Location,
} from '../oci/location.ts';
import type { ImageChoices, ImageCopyRequest } from './copy-image.ts';
import { copyImages, type ItemResult, type BatchResult } from './copy-images.ts';

export interface BackupRequest extends ImageChoices {
  /** `[docker://]host/repository[:tag]`, each with `*` and `{a,b}`; without a tag all tags. */
  readonly from: string;
  /** `s3://bucket[/template]`, or `oci-archive:` with a file's path as a template. Ending in `/`, the default template follows. */
  readonly to: string;
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
): Promise<BatchResult> {
  const pattern = parseImagePattern(request.from);
  const target = parseTemplateTarget(request.to);
  const faults = collectFaults(options.report);
  const plan = await planBackup(request, pattern, target, faults, backends, options);
  const { requests } = plan;
  if (requests.length === 0 && plan.failed !== undefined) throw plan.failed;
  checkDistinct(
    requests.map(({ to }) => to),
    request.to,
  );
  if (requests.length === 0) {
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
  return { items, faults: faults.messages };
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
}

/** The plan of a backup. A repository that cannot be listed is left out where the pattern names several. */
async function planBackup(
  request: BackupRequest,
  pattern: ImagePattern,
  target: TemplateTarget,
  faults: Faults,
  backends: Backends,
  options: OperationOptions,
): Promise<BackupPlan> {
  const registry = backends.registry(pattern.registry, 'source');
  const requests: ImageCopyRequest[] = [];
  const settings = new Map<string, OwnSettings>();
  const cosign = new Map<string, readonly string[]>();
  let failed: Failure | undefined;
  for (const repository of await repositoriesOf(registry, pattern.repository, pattern.registry, faults, options)) {
    try {
      let beside: string | undefined;
      const tags = await tagsOf(registry, repository, pattern.tag, faults, options);
      if (pattern.tag === undefined) cosign.set(repository, tags.cosign);
      for (const tag of tags.images) {
        const reference: Reference = { registry: pattern.registry, repository, tag };
        const key = await keyOf(target.template, reference, registry, options);
        const place = posix.join(posix.dirname(key), SETTINGS_NAME);
        beside ??= place;
        const settingsDigest = async (): Promise<Digest | undefined> => {
          const own = settings.get(place);
          return own?.repository === repository ? digestOfSettings(own.read, options) : undefined;
        };
        requests.push({ ...request, from: { transport: 'docker', reference }, to: target.locate(key), settingsDigest });
      }
      if (beside === undefined) continue;
      const owner = settings.get(beside);
      if (owner === undefined)
        settings.set(beside, {
          repository,
          read: settingsReader({ registry: pattern.registry, repository }, backends, options),
        });
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
      faults.add(`${repository} was not backed up: ${describeFailure(error)}`);
    }
  }
  return { requests, settings, cosign, failed };
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
  locate(key: string): Exclude<Location, { transport: 'docker' | 'store' }>;
}

function parseTemplateTarget(to: string): TemplateTarget {
  if (to.startsWith('s3://')) {
    const { bucket, key } = parseS3(to);
    return {
      template: archiveTemplate(key),
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
  return {
    template: archiveTemplate(path),
    locate: (expanded) => ({ transport: 'archive', path: expanded }),
  };
}

async function repositoriesOf(
  registry: Registry,
  pattern: string,
  host: string,
  faults: Faults,
  options: OperationOptions,
): Promise<readonly string[]> {
  if (!isPattern(pattern)) return [pattern];
  const found: string[] = [];
  try {
    for await (const name of registry.repositories(pattern.slice(0, pattern.search(/[*{]/)), options)) {
      if (!matchesPattern(pattern, name)) continue;
      // it becomes part of a key or path
      if (isRepositoryName(name)) found.push(name);
      else faults.add(`${host} lists ${quote(name)}, which cannot be a repository: it was not backed up`);
    }
  } catch (error) {
    throw atSide('source', error);
  }
  if (found.length === 0) {
    throw new Failure('NOT_FOUND', `${host} has no repository that matches ${pattern}`, {
      context: { side: 'source' },
    });
  }
  return found.sort();
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
  const descriptor = template.includes('{digest}')
    ? await registry.repository(reference.repository).resolve(reference.tag ?? 'latest', options)
    : undefined;
  return expandTemplate(template, reference, descriptor?.digest, new Date(options.clock.now()));
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
