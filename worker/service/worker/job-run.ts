import type { Destinations, JobEnd, Rules, Runs } from '../../state/state.ts';
import type { ObjectCounts } from '../../util/events.ts';
import type { ArchiveSettingsOptions } from './archive-settings.ts';
import type { FailedDestination } from './failed-destinations.ts';

/** What running a job needs beside its backends. */
export interface RunJobOptions extends ArchiveSettingsOptions {
  readonly destinations: Pick<Destinations, 'foundBy' | 'get' | 'list' | 'record' | 'letters' | 'forgetLetters'>;
  readonly rules: Pick<Rules, 'list'>;
  /** Whether the planner's list showed, a moment ago, that the source's repository has no referrers. */
  readonly unreferenced: boolean;
  readonly runs: ArchiveSettingsOptions['runs'] & Pick<Runs, 'job' | 'setVerified'>;
  /** The program, as snapshots name it. */
  readonly tool: string;
}

/** How a job ends that did not fail. */
export type Done = Exclude<JobEnd, { readonly state: 'failed' }> & {
  /** What it did with the bytes of images, over all destinations; absent where it moves none. */
  readonly bytes?: Readonly<Record<(typeof BYTE_COUNTS)[number], number>>;
  /** What became of objects; absent where it publishes none. */
  readonly objects?: ObjectCounts;
};

/** A job that cannot go on before something else is done, and holds no slot of the worker until then. It does not count as an attempt. */
export interface Waiting {
  readonly state: 'waiting';
  /** Until its next delivery. */
  readonly seconds: number;
  readonly why: string;
}

/** The result of a job, and where it failed. Failures that concern no single destination are thrown. */
export type Ended = Done | Waiting | { readonly state: 'failed'; readonly failed: readonly FailedDestination[] };

/** What a job counts of the bytes of images. */
export const BYTE_COUNTS = ['bytesSent', 'bytesReused', 'bytesSkipped'] as const;
