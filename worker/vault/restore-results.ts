import type * as Sdk from '@aws-sdk/client-backup';
import type { Abortable } from '../util/abort.ts';
import type { Proxies } from '../util/proxies.ts';
import { renewingCredentials } from '../util/renew-credentials.ts';
import { calling } from '../util/sdk-failure.ts';
import { sdkRequests } from '../util/sdk-requests.ts';

/** What a verification of a restored bucket found. */
export interface RestoreVerdict {
  /** `TIMED_OUT`: the verification did not end in time, so nothing is known about what was not read. */
  readonly status: 'SUCCESSFUL' | 'FAILED' | 'TIMED_OUT';
  /** One line: what was looked at, and what was found. */
  readonly message: string;
}

/** Where AWS Backup keeps the result of a restore test. */
export interface RestoreResults {
  /** Records the verdict about a restore job. AWS Backup then deletes what the test restored. INVALID for a job that has a result already. */
  put(job: string, verdict: RestoreVerdict, options?: Abortable): Promise<void>;
}

export interface RestoreResultsOptions {
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

/** Longer messages are cut: AWS Backup does not publish its limit. */
const MAX_MESSAGE = 1000;

/**
 * Results in AWS Backup. No request is sent yet; the SDK is loaded with the first call.
 *
 * IAM actions: backup:PutRestoreValidationResult.
 */
export function openRestoreResults({ proxies }: RestoreResultsOptions = {}): RestoreResults {
  return {
    put: async (job, { status, message }, options = {}) => {
      const sdk: typeof Sdk = await import('@aws-sdk/client-backup');
      const client = renewingCredentials(new sdk.BackupClient({ ...sdkRequests(proxies), maxAttempts: 5 }));
      try {
        await calling(
          `record the result of the restore job ${job}`,
          'backup:PutRestoreValidationResult',
          options,
          async (sdkOptions) =>
            client.send(
              new sdk.PutRestoreValidationResultCommand({
                RestoreJobId: job,
                ValidationStatus: status,
                ValidationStatusMessage: message.slice(0, MAX_MESSAGE),
              }),
              sdkOptions,
            ),
        );
      } finally {
        client.destroy();
      }
    },
  };
}
