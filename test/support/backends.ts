import type { Source, Target } from '../../worker/content/content.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import type { Backends, Registry, StorageClasses } from '../../worker/images/backends.ts';
import { isManifestType } from '../../worker/oci/manifest.ts';
import { orAborted } from '../../worker/util/abort.ts';
import type { Side } from '../../worker/util/failure.ts';

/** The same backends with some of their repositories and buckets replaced. */
export function replaceBackends(
  backends: Backends,
  change: {
    readonly repository?: (inner: Source & Target, side: Side, name: string) => Source & Target;
    readonly bucket?: (store: ObjectStore) => ObjectStore;
    readonly storageClasses?: (inner: StorageClasses) => StorageClasses;
    readonly settings?: (repository: string, inner: Registry) => ReturnType<Registry['settings']>;
  },
): Backends {
  return {
    registry: (host, side): Registry => {
      const inner = backends.registry(host, side);
      return {
        repository: (name, options) => {
          const repository = inner.repository(name, options);
          return change.repository?.(repository, side, name) ?? repository;
        },
        repositories: (prefix, options) => inner.repositories(prefix, options),
        images: inner.images,
        manifests: inner.manifests,
        settings: async (repository, options) =>
          change.settings === undefined ? inner.settings(repository, options) : change.settings(repository, inner),
        hasRepository: async (repository, options) => inner.hasRepository(repository, options),
        createRepository: async (repository, settings, options) =>
          inner.createRepository(repository, settings, options),
        settingsChanges: async (repository, settings, options) => inner.settingsChanges(repository, settings, options),
        applySettings: async (repository, settings, options) => inner.applySettings(repository, settings, options),
        registrySettings: async (options) => inner.registrySettings(options),
        registrySettingsChanges: async (settings, options) => inner.registrySettingsChanges(settings, options),
        applyRegistrySettings: async (settings, options) => inner.applyRegistrySettings(settings, options),
        storageClasses:
          inner.storageClasses === undefined || change.storageClasses === undefined
            ? inner.storageClasses
            : change.storageClasses(inner.storageClasses),
      };
    },
    bucket: (name) => change.bucket?.(backends.bucket(name)) ?? backends.bucket(name),
    folder: (path) => backends.folder(path),
    removeUnfinished: async (path) => backends.removeUnfinished(path),
    temporary: async () => backends.temporary(),
    standardStreams: backends.standardStreams,
  };
}

/** Backends whose sources serve no blob until the gate is opened, except the first `letThrough`. */
export function gated(
  backends: Backends,
  { letThrough = 0 }: { readonly letThrough?: number } = {},
): {
  readonly backends: Backends;
  readonly reached: Promise<void>;
  open(): void;
} {
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  let left = letThrough;
  const repository = (inner: Source & Target, side: Side): Source & Target => {
    if (side === 'target') return inner;
    return new Proxy(inner, {
      get: (_, name) => {
        const own: unknown = Reflect.get(inner, name, inner);
        if (typeof own !== 'function') return own;
        if (name !== 'open') return own.bind(inner) as unknown;
        const waiting: Source['open'] = async (descriptor, options) => {
          if (!isManifestType(descriptor.mediaType) && --left < 0) {
            reached.resolve();
            await orAborted(gate.promise, options);
          }
          return inner.open(descriptor, options);
        };
        return waiting;
      },
    });
  };
  return { backends: replaceBackends(backends, { repository }), reached: reached.promise, open: () => gate.resolve() };
}
