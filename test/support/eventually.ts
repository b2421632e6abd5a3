import { vi } from 'vitest';

/** Far longer than any wait on a busy machine, but shorter than the limit of a test, so that the reason is reported. */
const LIMIT_MS = 240_000;

/** Repeats `check` until it does not throw, and returns its result. */
export async function eventually<T>(
  check: () => T | Promise<T>,
  options: { readonly intervalMs?: number } = {},
): Promise<T> {
  return vi.waitFor(check, { timeout: LIMIT_MS, interval: options.intervalMs ?? 10 });
}
