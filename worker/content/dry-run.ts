import type { Target } from './content.ts';

/** The target as it is to read, but nothing is written: a copy to it reports what a real one would do, without moving a layer. */
export function dryRun(target: Target): Target {
  return {
    has: (descriptor, options) => target.has(descriptor, options),
    put: async () => undefined,
    tag: async () => undefined,
  };
}
