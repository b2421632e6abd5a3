import { expect, test } from 'vitest';
import { reachedMs } from '../../../../worker/service/planner/resend-lost.ts';
import type { JobState, Run } from '../../../../worker/state/state.ts';
import { NO_JOBS } from '../../../support/test-service.ts';

function runWith(state: JobState): Run {
  const jobs = { ...NO_JOBS, [state]: 1 };
  return { id: 'run', trigger: 'schedule', startedAtMs: 1000, unchanged: 0, unseen: 0, jobs };
}

test.each(['running', 'done', 'skipped', 'gone'] as const)('a job that is %s shows how far workers are', (state) =>
  expect(reachedMs([runWith(state)])).toBe(1000),
);

test.each(['waiting', 'failed'] as const)('a job that is %s does not: it may never have had a message', (state) =>
  expect(reachedMs([runWith(state)])).toBe(-Infinity),
);
