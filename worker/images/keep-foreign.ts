import { abilitiesOf } from '../content/abilities.ts';
import type { Source } from '../content/content.ts';
import { foreignOf, servedBy } from '../content/graph.ts';
import type { Digest } from '../oci/digest.ts';
import type { OperationOptions } from './backends.ts';
import type { WholeImage } from './image-target.ts';

/**
 * `image`, with the foreign layers (`kept`) that its source does not have and `archive` does: a registry may lose them, and the archive that is
 * replaced may be the last place that has them.
 */
export async function keepForeign(
  image: WholeImage,
  archive: Source,
  options: OperationOptions,
): Promise<{ readonly image: WholeImage; readonly kept: ReadonlySet<unknown> }> {
  const { source, graph } = image;
  const kept = await servedBy(archive, foreignOf(graph), options);
  if (kept.size === 0) return { image, kept };
  const foreignAtSource = new Set([...(graph.foreignAtSource ?? []), ...kept]);
  return { image: { ...image, source: blobsFrom(archive, kept, source), graph: { ...graph, foreignAtSource } }, kept };
}

/** `source`, but the blobs of these digests are read from `other`. */
function blobsFrom(other: Source, digests: ReadonlySet<Digest>, source: Source): Source {
  return {
    ...abilitiesOf(source),
    resolve: async (reference, options) => source.resolve(reference, options),
    referrers: (descriptor, options) => source.referrers(descriptor, options),
    tags: (options) => source.tags(options),
    open: async (descriptor, options) => (digests.has(descriptor.digest) ? other : source).open(descriptor, options),
  };
}
