import type { StoreBackupResult } from '../images/backup-store.ts';
import { counted, countedRepositories, formatBytes, formatDuration, printable } from './text.ts';

/** A backup into a store, for programs and for people. */
export function describeStoreBackup(
  result: StoreBackupResult,
  seconds: number,
): { readonly json: object; readonly text: string } {
  const { images, added, bytes, imageBytes, failures, snapshot } = result;
  const isPlan = snapshot === undefined;
  const counts = [
    `${images.stored} ${isPlan ? 'to store' : 'stored'}`,
    `${images.unchanged} unchanged`,
    ...(images.archived > 0 ? [`${images.archived} archived in ECR and listed only`] : []),
    `${images.failed} failed`,
  ];
  const total = images.stored + images.unchanged + images.archived + images.failed;
  const lines = [
    ...(isPlan ? [] : [`snapshot ${snapshot.id} in ${result.to}`]),
    `${counted(total, 'image')} of ${countedRepositories(result.repositories)}: ${counts.join(', ')}`,
    `${isPlan ? 'would send' : 'sent'} ${formatBytes(added.bytes)} in ${counted(added.blobs, 'blob')}, in ${formatDuration(seconds * 1000)}`,
    `${formatBytes(bytes)} in all, each blob once; ${formatBytes(imageBytes)} as one archive for each image${savedBy(bytes, imageBytes)}`,
    ...failures.map((failure) => `failed: ${nameOf(failure)}${printable(failure.reason)}`),
  ];
  const { from, to, repositories } = result;
  const json = {
    from,
    to,
    seconds,
    ...(isPlan ? { dryRun: true } : { snapshot: { id: snapshot.id, key: snapshot.key } }),
    repositories,
    images,
    added,
    bytes,
    imageBytes,
    failures,
  };
  return { json, text: lines.join('\n') };
}

function savedBy(bytes: number, imageBytes: number): string {
  return imageBytes > bytes ? `, ${Math.round((1 - bytes / imageBytes) * 100)} % less` : '';
}

function nameOf({ repository, tag, digest }: StoreBackupResult['failures'][number]): string {
  if (repository === undefined) return '';
  return `${repository}${tag === undefined ? (digest === undefined ? '' : `@${digest}`) : `:${tag}`}: `;
}
