import { expect, test } from 'vitest';
import { formatUnchanged } from '../../../worker/commands/text.ts';
import type { Run } from '../../../worker/state/state.ts';

test.each([
  [0, '42'],
  [2, '42 (2 not looked at)'],
])('counts %i unchanged images separately that could not be looked at', (unseen, text) => {
  const jobs = { waiting: 0, running: 0, done: 3, skipped: 2, gone: 0, failed: 0 };
  const run: Run = { id: 'run-1', trigger: 'schedule', startedAtMs: 0, unchanged: 40, unseen, jobs };
  expect(formatUnchanged(run)).toBe(text);
});
