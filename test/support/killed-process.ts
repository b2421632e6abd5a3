// A process that ends, or is killed by SIGKILL at the given point. Its argument is a ProcessOrder as JSON, and it writes a ProcessRun
// as JSON to stdout at the end. The environment names S3 and the registries, as for the program.
import { writeSync } from 'node:fs';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { makeImage, type ImageRecipe } from './images.ts';
import { runBackup, runMirror, type ProcessRun } from './process-run.ts';

export type StoreOrder = { readonly folder: string } | { readonly bucket: string; readonly minPartBytes: number };

export type ProcessOrder = { readonly recipe: ImageRecipe; readonly at?: number | undefined } & (
  | { readonly store: StoreOrder; readonly key: string; readonly partSize: number }
  | { readonly registry: string; readonly repository: string }
);

async function openStore(order: StoreOrder): Promise<ObjectStore> {
  if ('folder' in order) return (await import('../../worker/objects/files/store.ts')).openFiles(order.folder);
  return (await import('../../worker/objects/s3/store.ts')).openS3(order);
}

function print(run: ProcessRun): void {
  writeSync(1, JSON.stringify(run));
}

function onKill(run: ProcessRun): void {
  print(run);
  process.kill(process.pid, 'SIGKILL');
}

const order = JSON.parse(process.argv[2] ?? '') as ProcessOrder;
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
  print(await runMirror(image, target, { at, onKill }));
} else {
  print(await runBackup(image, await openStore(order.store), order.key, { partSize: order.partSize, at, onKill }));
}
