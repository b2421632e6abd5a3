import { createHash } from 'node:crypto';
import type { Job } from './job.ts';

type MemberOf<J> = J extends unknown ? keyof J : never;

/** Everything of a job that decides what is done, and for which rule. Its run and its id are the key that the state keeps it under. */
const MEMBERS: Readonly<Record<Exclude<MemberOf<Job>, 'version' | 'run' | 'id' | 'handovers' | 'large'>, true>> = {
  kind: true,
  rule: true,
  at: true,
  from: true,
  digest: true,
  to: true,
  platforms: true,
  referrers: true,
  includeArchived: true,
  select: true,
  only: true,
  create: true,
  force: true,
  settings: true,
  against: true,
  depth: true,
  sample: true,
  restoreTo: true,
  report: true,
  after: true,
};

/**
 * Equal for messages that ask for the same work. `handovers` and `large` are left out, and so are members that this version does not know or the
 * job does not have, so planners and workers of two versions agree.
 */
export function fingerprintOf(job: Job): string {
  const members = new Map<string, unknown>(Object.entries(job));
  const known = Object.keys(MEMBERS)
    .map((name) => [name, members.get(name)])
    .filter(([, value]) => value !== undefined);
  return createHash('sha256').update(JSON.stringify(known)).digest('hex');
}
