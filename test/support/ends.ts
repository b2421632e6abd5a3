import type { Source, Target } from '../../worker/content/content.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import type { Ends, Registry } from '../../worker/images/backends.ts';
import { isManifestType } from '../../worker/oci/manifest.ts';
import { orAborted } from '../../worker/util/abort.ts';
import type { Side } from '../../worker/util/failure.ts';

/** Ends with other repositories and buckets in their place. */
export function withEnds(
  ends: Ends,
  change: {
    readonly repository?: (end: Source & Target, side: Side, name: string) => Source & Target;
    readonly bucket?: (store: ObjectStore) => ObjectStore;
  },
): Ends {
  return {
    registry: (host, side): Registry => {
      const inner = ends.registry(host, side);
      return {
        repository: (name, o) => {
          const end = inner.repository(name, o);
          return change.repository?.(end, side, name) ?? end;
        },
        repositories: (prefix, o) => inner.repositories(prefix, o),
        images: inner.images,
        settings: async (repository, o) => inner.settings(repository, o),
        applySettings: async (repository, settings, o) => inner.applySettings(repository, settings, o),
      };
    },
    bucket: (name) => change.bucket?.(ends.bucket(name)) ?? ends.bucket(name),
    folder: (path) => ends.folder(path),
    temporary: async () => ends.temporary(),
  };
}

/** Ends whose first blob stays at its source until the gate is opened. */
export function gated(ends: Ends): { readonly ends: Ends; readonly reached: Promise<void>; open(): void } {
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const repository = (end: Source & Target, side: Side): Source & Target => {
    if (side === 'target') return end;
    return new Proxy(end, {
      get: (inner, name) => {
        const own: unknown = Reflect.get(inner, name, inner);
        if (typeof own !== 'function') return own;
        if (name !== 'open') return own.bind(inner) as unknown;
        const waiting: Source['open'] = async (d, o) => {
          if (!isManifestType(d.mediaType)) {
            reached.resolve();
            await orAborted(gate.promise, o);
          }
          return end.open(d, o);
        };
        return waiting;
      },
    });
  };
  return { ends: withEnds(ends, { repository }), reached: reached.promise, open: () => gate.resolve() };
}
