// One life in a process of its own, which dies by SIGKILL at the point it is told, or runs to its end. Its argument is a LifeOrder as JSON;
// what is known of the life is on stdout when it is over. Where S3 and the registries are it learns from the environment, as the program does.
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
// each imports only what it needs: the start is most of what hundreds of lives cost
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
