// One life in a process of its own, which is killed by SIGKILL at the ordered point, or runs to its end. Its argument is a LifeOrder as JSON;
// it writes the Life as JSON to stdout at the end. The environment names S3 and the registries, as for the program.
import { writeSync } from 'node:fs';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { makeImage, type ImageRecipe } from './images.ts';
import { backupLife, mirrorLife, type Life } from './lives.ts';

export type StoreOrder = { readonly folder: string } | { readonly bucket: string; readonly minPartBytes: number };

export type LifeOrder = { readonly recipe: ImageRecipe; readonly at?: number | undefined } & (
  | { readonly store: StoreOrder; readonly key: string; readonly partSize: number }
  | { readonly registry: string; readonly repository: string }
);

async function openStore(order: StoreOrder): Promise<ObjectStore> {
  if ('folder' in order) return (await import('../../worker/objects/files/store.ts')).openFiles(order.folder);
  return (await import('../../worker/objects/s3/store.ts')).openS3(order);
}

function tell(life: Life): void {
  writeSync(1, JSON.stringify(life));
}

function onDeath(life: Life): void {
  tell(life);
  process.kill(process.pid, 'SIGKILL');
}

const order = JSON.parse(process.argv[2] ?? '') as LifeOrder;
const image = await makeImage(order.recipe);
const { at } = order;
// each imports only what it needs: starting up is most of the cost of hundreds of processes
if ('registry' in order) {
  const [{ connect }, { readSettings }] = await Promise.all([
    import('../../worker/main/wire.ts'),
    import('../../worker/main/settings.ts'),
  ]);
  await using backends = connect(readSettings(process.env), 'test', { report: () => undefined });
  const target = backends.registry(order.registry, 'target').repository(order.repository);
  tell(await mirrorLife(image, target, { at, onDeath }));
} else {
  tell(await backupLife(image, await openStore(order.store), order.key, { partSize: order.partSize, at, onDeath }));
}
