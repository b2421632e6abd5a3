import type { Backends, OperationOptions } from '../../images/backends.ts';
import { makeReport } from '../../images/make-report.ts';
import type { BackupPlace } from '../../images/open-backups.ts';
import { storeAndPrefix } from '../../images/open-place.ts';
import { reportPage } from '../../images/report-page.ts';
import { checkAborted } from '../../util/abort.ts';
import { describeFailure } from '../../util/failure.ts';

/** Beside the snapshots of a place. Nothing that reads backups looks at it. */
const PAGE = 'report.html';

/**
 * Writes a page about all backups of a place beside its snapshots, in place of the one before. A failure is a warning, since the backup was made.
 * Costs a GET of every snapshot. Of two writers at once the last one wins: each page is of a moment. Throws ABORTED only.
 */
export async function writeReport(place: BackupPlace, backends: Backends, options: OperationOptions): Promise<void> {
  const { store, prefix } = storeAndPrefix(place.root, backends);
  const key = `${prefix}${PAGE}`;
  try {
    const page = reportPage(await makeReport(place, backends, options));
    const contentType = 'text/html; charset=utf-8';
    await store.write(key, Buffer.from(page), { signal: options.signal, contentType });
  } catch (error) {
    checkAborted(options);
    const message = `${store.describe(key)} was not written: ${describeFailure(error)}`;
    options.report?.({ type: 'warning', message });
  }
}
