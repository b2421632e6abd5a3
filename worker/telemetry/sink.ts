import type { Event, JobName } from '../util/events.ts';

/** Takes one event, and the job that it belongs to where there is one. */
export type Sink = (event: Event, job: JobName | undefined) => void;
