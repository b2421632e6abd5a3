import { basename, dirname, join } from 'node:path';
import { storeTar } from '../store/one-file.ts';
import { Failure, ifFound, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { backupToStore, type StoreBackupRequest, type StoreBackupResult } from './backup-store.ts';
import { openStore, storeAndPrefix } from './open-place.ts';

/**
 * Backs up as `backupToStore` does, into a store in one file, `store:file.tar`. The file appears when it is whole. Until then a folder beside it,
 * `.file.tar.unfinished`, keeps what was read, and a backup that was stopped goes on there. CONFLICT where the file exists: it is written once.
 */
export async function backupToBundle(
  request: StoreBackupRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<StoreBackupResult> {
  const path = request.to.slice('store:'.length);
  const [folder, name] = [dirname(path), basename(path)];
  const files = backends.folder(folder);
  if ((await onSide('target', ifFound(files.stat(name, options)))) !== undefined)
    throw new Failure(
      'CONFLICT',
      `back up to ${request.to}: the file exists, and a store in one file is written once: choose another name, or delete it`,
      { context: { side: 'target' } },
    );
  if (request.dryRun === true) return backupToStore(request, backends, options);
  const unfinished = join(folder, `.${name}.unfinished`);
  const root = { folder: unfinished, prefix: '' } as const;
  const result = await backupToStore({ ...request, to: `store:${unfinished}` }, backends, options);
  const { snapshot } = result;
  if (snapshot === undefined) throw new Failure('BUG', `back up to ${request.to}: there is no snapshot`);
  options.report?.({ type: 'note', message: `writing what was stored into one file, ${path}` });
  const store = await openStore(root, backends, { ...options, side: 'target' });
  const { clock, report, signal } = options;
  const body = await onSide(
    'target',
    storeTar(storeAndPrefix(root, backends), store, snapshot, { clock, report, signal }),
  );
  const condition = { ifAbsent: true } as const;
  await onSide('target', files.stream(name, body, { signal, condition }));
  await backends.removeUnfinished(unfinished);
  return { ...result, to: request.to };
}
