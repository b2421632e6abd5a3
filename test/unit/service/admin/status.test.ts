import { expect, test } from 'vitest';
import { status } from '../../../../worker/service/admin/status.ts';
import { formatRule } from '../../../../worker/rules/config.ts';
import { rule } from '../../../support/rules.ts';
import { testService, type TestService } from '../../../support/test-service.ts';

/** A rule with one run, whose only job ended so. */
async function ran(t: TestService, state: 'done' | 'failed'): Promise<void> {
  const name = 'hourly';
  const hourly = rule({ name, from: ['a.example/app'], to: ['b.example/{repository}'] });
  await t.state.rules.put({ name, document: formatRule(hourly) }, 0);
  await t.state.runs.beginScheduled({ id: 'run', rule: name, scheduledAtMs: t.clock.now() });
  await t.state.runs.addJobs('run', [{ id: 'job', title: 'list docker://a.example/app', rule: name }]);
  await t.state.runs.planned('run');
  await t.state.runs.endJob('run', 'job', state === 'done' ? { state } : { state, code: 'DENIED', reason: 'no' });
}

test('a rule whose last run was no good one is a fault, also where it left no dead letter', async () => {
  const t = testService();
  await ran(t, 'failed');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: [expect.stringMatching(/last run had failures/)] }]);
  expect(found.faulty).toBe(true);
});

test('a rule whose last run was a good one is none', async () => {
  const t = testService();
  await ran(t, 'done');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: [], ageSeconds: 0 }]);
  expect(found.faulty).toBe(false);
});
