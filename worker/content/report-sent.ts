import type { Report } from '../util/events.ts';
import type { Bytes, Target } from './content.ts';

/** The same target; every byte that it takes is reported as sent, again where it takes a body again. */
export function reportSent(target: Target, report: Report): Target {
  const counted = async function* (body: Bytes): Bytes {
    for await (const chunk of body) {
      report({ type: 'bytes-sent', bytes: chunk.byteLength });
      yield chunk;
    }
  };
  return {
    ...(target.inOrder === undefined ? {} : { inOrder: target.inOrder }),
    has: async (descriptor, options) => target.has(descriptor, options),
    put: async (descriptor, open, options) => target.put(descriptor, () => counted(open()), options),
    tag: async (name, descriptor, open, options) => target.tag(name, descriptor, () => counted(open()), options),
    mount: async (descriptor, from, options) => (await target.mount?.(descriptor, from, options)) === true,
  };
}
