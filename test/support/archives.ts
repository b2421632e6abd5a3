import { createArchive, type CreateArchiveOptions } from '../../worker/archive/writer.ts';
import { planArchive, type ArchiveLayout } from '../../worker/archive/plan.ts';
import type { Source } from '../../worker/content/content.ts';
import { walk, type Root } from '../../worker/content/graph.ts';
import { copy } from '../../worker/copy/copy.ts';
import type { ObjectInfo, ObjectStore } from '../../worker/objects/objects.ts';

export const REPOSITORY = 'registry.example.com/team/app';

/** The planned archive of an image. */
export async function planOf(source: Source, root: Root, repository = REPOSITORY): Promise<ArchiveLayout> {
  return planArchive(await walk(source, [root]), { tag: root.tags[0], repository });
}

/** Writes the archive of a whole image, as a backup does. */
export async function archiveImage(
  source: Source,
  root: Root,
  store: ObjectStore,
  key: string,
  options: CreateArchiveOptions = {},
): Promise<ObjectInfo> {
  const graph = await walk(source, [root]);
  const layout = planArchive(graph, { tag: root.tags[0], repository: REPOSITORY });
  const archive = await createArchive(store, key, layout, options);
  await copy(source, archive, [root], { graph, strict: true });
  return archive.commit();
}
