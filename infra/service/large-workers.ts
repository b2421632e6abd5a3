import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import type { Construct } from 'constructs';
import type { InfraSettings } from '../settings/schema.ts';
import { Workers, type WorkersProps } from './worker.ts';

interface LargeWorkersProps extends Omit<WorkersProps, 'worker' | 'queues' | 'large'> {
  readonly largeJobs: IQueue | undefined;
  /** The workers whose cluster and role they share. */
  readonly others: Workers;
}

/** Adds the workers that do large jobs, where the settings have them. */
export function addLargeWorkers(
  scope: Construct,
  { largeJobs: size, worker }: InfraSettings,
  { largeJobs, others, ...props }: LargeWorkersProps,
): Workers | undefined {
  if (size === undefined || largeJobs === undefined) return undefined;
  const { aboveGiB: _, diskGiB, ...own } = size;
  return new Workers(scope, 'LargeWorkers', {
    ...props,
    worker: { ...worker, ...own },
    queues: { jobs: largeJobs },
    large: { diskGiB, others },
  });
}

/** The environment variables that send large jobs to their queue: worker/main/settings.ts reads them. */
export function environmentOfLarge(
  { largeJobs: size }: InfraSettings,
  largeJobs: IQueue | undefined,
): Readonly<Record<string, string>> {
  if (size === undefined || largeJobs === undefined) return {};
  return { TRANSSHIP_LARGE_QUEUE_URL: largeJobs.queueUrl, TRANSSHIP_LARGE_ABOVE_GIB: String(size.aboveGiB) };
}
