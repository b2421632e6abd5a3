// A registry of many repositories, and what a restore of all of it must restore.
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { copy } from '../../worker/copy/copy.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { forEachOf } from '../../worker/util/limit.ts';
import { Crash, type CrashPoints } from './crash.ts';
import { addJson, makeImage, seededBytes } from './images.ts';
import type { Lab } from './lab.ts';

export interface RegistrySize {
  readonly repositories: number;
  readonly imagesEach: number;
}

const LIFECYCLE =
  '{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":500},"action":{"type":"expire"}}]}';

/** The settings of the repository with this number. */
function settingsOf(number: number): Readonly<Record<string, unknown>> {
  return {
    tagMutability: number % 3 === 0 ? 'IMMUTABLE' : 'MUTABLE',
    scanOnPush: number % 2 === 0,
    tags: { number: String(number) },
    ...(number % 4 === 0 ? { lifecyclePolicy: LIFECYCLE } : {}),
  };
}

/**
 * Fills `registry` below `prefix`: every image shares a base layer with all others and one with its repository; among them are indexes, signed
 * ones, images with two tags, and images without a tag.
 */
export async function fillRegistry(
  lab: Lab,
  registry: LocalRegistry,
  prefix: string,
  size: RegistrySize,
): Promise<void> {
  const { backends, options } = lab.session();
  const client = lab.client(registry);
  await forEachOf(Array.from({ length: size.repositories }).keys(), 8, async (number) => {
    const name = `${prefix}/team-${number % 5}/app-${number}`;
    await backends.registry(registry.registryHost, 'target').applySettings(name, settingsOf(number), options);
    const target = client.repository(name);
    for (let image = 0; image < size.imagesEach; image++) {
      if (image % 10 === 7) {
        const signed = await makeImage({
          seed: number * 1000 + image,
          layers: [900],
          signed: true,
          tag: `signed-${image}`,
        });
        await copy(signed.content, target, [signed.root]);
        continue;
      }
      const { content, top } = smallImage(number, image, image % 10 === 3);
      const tags = image % 10 === 5 ? [] : image % 10 === 1 ? [`v${image}`, `stable-${image}`] : [`v${image}`];
      await copy(content, target, [{ descriptor: top, tags }], { referrers: false });
    }
  });
}

function smallImage(repository: number, number: number, isIndex: boolean): { content: MemoryContent; top: Descriptor } {
  const content = new MemoryContent();
  const layer = (seed: string, bytes: number): Descriptor =>
    content.add(MEDIA_TYPE.ociLayerGzip, seededBytes(seed, bytes));
  const manifest = (platform: string): Descriptor => {
    const own = `${repository}/${number}/${platform}`;
    const config = content.add(
      MEDIA_TYPE.ociConfig,
      Buffer.from(JSON.stringify({ os: 'linux', architecture: platform, own })),
    );
    const layers = [layer('base', 4000), layer(`repository ${repository}`, 1500), layer(own, 300)];
    return addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers });
  };
  if (!isIndex) return { content, top: manifest('amd64') };
  const manifests = ['amd64', 'arm64'].map((architecture) => {
    const { mediaType, digest, size } = manifest(architecture);
    return { mediaType, digest, size, platform: { os: 'linux', architecture } };
  });
  return { content, top: addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests }) };
}

/** Every image of the repositories below `prefix`, one line each, and the settings of each repository. */
export async function listRegistry(
  registry: LocalRegistry,
  prefix: string,
  { backends, options }: { readonly backends: Backends; readonly options: OperationOptions },
): Promise<readonly string[]> {
  const client = backends.registry(registry.registryHost, 'target');
  const lines: string[] = [];
  for await (const name of client.repositories(`${prefix}/`, options)) {
    const { encryption: _, ...settings } = (await client.settings(name, options)) ?? {};
    lines.push(`${name} ${JSON.stringify(settings)}`);
    for await (const row of client.images?.(name, options) ?? [])
      lines.push(
        `${name} ${row.digest} [${[...row.tags].sort().join(' ')}] of ${row.subject ?? 'nothing'} ${row.status}`,
      );
  }
  return lines.sort();
}

/** Deletes every repository below `prefix`. */
export async function emptyRegistry(lab: Lab, prefix: string): Promise<void> {
  const { backends, options } = lab.session();
  const client = backends.registry(lab.stack.ecr.registryHost, 'target');
  for (const name of await Array.fromAsync(client.repositories(`${prefix}/`, options)))
    await lab.stack.deleteRepository(name);
}

/** `backends` of a process that is killed at one of `points`: each write to a registry has two of them, before and after it took effect. */
export function dyingBackends(backends: Backends, points: CrashPoints): Backends {
  const write = async <T>(work: () => Promise<T>): Promise<T> => {
    points.point();
    const result = await work();
    points.point();
    return result;
  };
  return {
    ...backends,
    registry: (host, side) => {
      const registry = backends.registry(host, side);
      const alive =
        <A extends unknown[], R>(work: (...args: A) => R): ((...args: A) => R) =>
        (...args) => {
          points.alive();
          return work(...args);
        };
      return {
        ...registry,
        images: registry.images === undefined ? undefined : alive(registry.images.bind(registry)),
        manifests: registry.manifests,
        repositories: alive(registry.repositories.bind(registry)),
        settings: alive(registry.settings.bind(registry)),
        hasRepository: alive(registry.hasRepository.bind(registry)),
        settingsChanges: alive(registry.settingsChanges.bind(registry)),
        registrySettings: alive(registry.registrySettings.bind(registry)),
        registrySettingsChanges: alive(registry.registrySettingsChanges.bind(registry)),
        createRepository: async (...args) => write(async () => registry.createRepository(...args)),
        applySettings: async (...args) => write(async () => registry.applySettings(...args)),
        applyRegistrySettings: async (...args) => write(async () => registry.applyRegistrySettings(...args)),
        repository: (...args) => {
          const inner = registry.repository(...args);
          return {
            resolve: async (...rest) => alive(async () => inner.resolve(...rest))(),
            open: async (...rest) => alive(async () => inner.open(...rest))(),
            referrers: (...rest) => inner.referrers(...rest),
            tags: (...rest) => inner.tags(...rest),
            has: async (...rest) => alive(async () => inner.has(...rest))(),
            put: async (...rest) => write(async () => inner.put(...rest)),
            tag: async (...rest) => write(async () => inner.tag(...rest)),
            mount: async (...rest) => write(async () => (await inner.mount?.(...rest)) === true),
          };
        },
      };
    },
  };
}

/** Whether a result shows that the process was killed: later calls could not have happened. */
export function isDead(points: CrashPoints): boolean {
  try {
    points.alive();
    return false;
  } catch (error) {
    if (error instanceof Crash) return true;
    throw error;
  }
}
