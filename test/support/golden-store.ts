import { walk } from '../../worker/content/graph.ts';
import { copy } from '../../worker/copy/copy.ts';
import { describeImage } from '../../worker/images/describe-image.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { parseRepository } from '../../worker/oci/reference.ts';
import { openImageStore } from '../../worker/store/image-store.ts';
import type { StorePlace } from '../../worker/store/place.ts';
import { SnapshotBuilder } from '../../worker/store/snapshot-builder.ts';
import { workClock } from './clock.ts';
import { GOLDEN_REPOSITORY } from './golden.ts';
import type { MadeImage } from './images.ts';

const { registry: HOST, repository: REPOSITORY } = parseRepository(GOLDEN_REPOSITORY);
/** The store of all these objects. */
export function storePlace(store: ObjectStore): StorePlace {
  return { store, prefix: '', location: 'store:golden' };
}

/** Backs the image up into a new store, at a fixed time. */
export async function writeStore(objects: ObjectStore, { content, root }: MadeImage): Promise<void> {
  const clock = workClock({ startMs: Date.UTC(2026, 0, 1) });
  const store = await openImageStore(storePlace(objects), { clock, create: true });
  await using backup = await store.begin();
  const graph = await walk(content, [root]);
  await copy(content, backup.target, [root], { graph });
  const time = new Date(clock.now()).toISOString();
  const builder = new SnapshotBuilder({
    startedAt: time,
    tool: 'transship 0.1.0',
    kind: 'store',
    registry: { host: HOST },
    scope: { repositories: '*', untagged: false, referrers: true, platforms: [], listed: true },
  });
  builder.repository(REPOSITORY, { complete: true });
  builder.image(REPOSITORY, describeImage(graph, { tags: root.tags }));
  await backup.finish(builder.finish({ finishedAt: time, added: backup.added }));
}
