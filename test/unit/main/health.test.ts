import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { startHealth } from '../../../worker/main/health.ts';
import { manualClock } from '../../support/clock.ts';
import { failureOf } from '../../support/lab.ts';

/** The result of the container's health check for the worker on this port. */
async function check(port: number): Promise<{ readonly code: number | null; readonly said: string }> {
  const child = spawn(process.execPath, ['worker/main/health-check.ts'], {
    env: { TRANSSHIP_HEALTH_PORT: String(port) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  await once(child, 'close');
  return { code: child.exitCode, said };
}

test('a worker is unhealthy after 90 seconds without a sign of life, and healthy again after the next', async () => {
  const clock = manualClock();
  await using health = await startHealth({ port: 0, clock });
  await clock.advance(90_000);
  expect(await check(health.port)).toEqual({ code: 0, said: '{"well":true,"silentSeconds":90}\n' });
  await clock.advance(1000);
  expect(await check(health.port)).toEqual({ code: 1, said: '{"well":false,"silentSeconds":91}\n' });
  health.alive();
  expect((await check(health.port)).code).toBe(0);
});

test('a missing worker is unhealthy', async () => {
  const clock = manualClock();
  const health = await startHealth({ port: 0, clock });
  await health[Symbol.asyncDispose]();
  const { code, said } = await check(health.port);
  expect(code).toBe(1);
  expect(said).toMatch(/^no worker answers on port \d+/);
});

test('a port that is taken is named', async () => {
  const clock = manualClock();
  await using health = await startHealth({ port: 0, clock });
  const failure = await failureOf(startHealth({ port: health.port, clock }), 'INVALID');
  expect(failure.message).toContain(`on port ${health.port}: it is taken`);
});
