import type { Target } from './content.ts';

/** The target, which is read as it is but never written to: a copy to it reports what a real one would do, without moving a layer. */
export function dryRun(target: Target): Target {
  return {
    has: (descriptor, options) => target.has(descriptor, options),
    put: async () => undefined,
    tag: async () => undefined,
  };
}
