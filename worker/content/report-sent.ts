import type { Report } from '../util/events.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import type { Bytes, Target } from './content.ts';
import { paced } from './paced.ts';
import { watched } from './watch.ts';

/** The same target; every byte that it takes is reported as sent, again where it takes a body again. */
export function reportSent(target: Target, report: Report, clock?: Clock): Target {
  return {
    ...(target.inOrder === undefined ? {} : { inOrder: target.inOrder }),
    has: async (descriptor, options) => target.has(descriptor, options),
    put: async (descriptor, open, options) => target.put(descriptor, () => reportTaken(open(), report, clock), options),
    tag: async (name, descriptor, open, options) =>
      target.tag(name, descriptor, () => reportTaken(open(), report, clock), options),
    mount: async (descriptor, from, options) => (await target.mount?.(descriptor, from, options)) === true,
  };
}

/** The same body; what is taken of it is reported as sent. */
export function reportTaken(body: Bytes, report: Report, clock: Clock = systemClock): Bytes {
  return watched(
    body,
    paced((bytes) => report({ type: 'bytes-sent', bytes }), clock),
  );
}
