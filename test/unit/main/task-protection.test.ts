import { describe, expect, onTestFinished, test } from 'vitest';
import { protectTask, type TaskProtection } from '../../../worker/main/task-protection.ts';
import type { Event } from '../../../worker/util/events.ts';
import { manualClock, type ManualClock } from '../../support/clock.ts';
import { eventually } from '../../support/eventually.ts';
import { scriptedServer, type Reply } from '../../support/scripted-server.ts';

const ARN = 'arn:aws:ecs:us-east-1:111111111111:task/workers/0123456789abcdef';
const answering = (body: unknown, status = 200): Reply => ({ status, body: JSON.stringify(body) });
const DONE = answering({ protection: { ProtectionEnabled: true, TaskArn: ARN } });
const failing = (Reason: string): Reply => answering({ failure: { Arn: ARN, Detail: 'in short', Reason } });
const ON = { ProtectionEnabled: true, ExpiresInMinutes: 15 };
const OFF = { ProtectionEnabled: false };

interface Agent {
  readonly protection: TaskProtection;
  readonly clock: ManualClock;
  readonly events: readonly Event[];
  /** Every requested state, once there are so many and the task waits for the next event. */
  readonly asked: (count: number) => Promise<readonly unknown[]>;
  readonly bodies: () => readonly unknown[];
}

/** An agent with these answers, in turn; the test fails when there are more requests, or fewer. */
async function agent(...replies: readonly Reply[]): Promise<Agent> {
  const server = await scriptedServer({ 'PUT /api/v1/task-protection/v1/state': replies });
  onTestFinished(async () => server[Symbol.asyncDispose]());
  const clock = manualClock();
  const events: Event[] = [];
  const protection = protectTask({
    agentUri: `${server.url}/api/v1`,
    clock,
    report: (event) => void events.push(event),
  });
  onTestFinished(async () => protection[Symbol.asyncDispose]());
  const bodies = (): readonly unknown[] => server.requests.map(({ body }) => JSON.parse(body.toString()) as unknown);
  return {
    protection,
    clock,
    events,
    bodies,
    asked: async (count) => {
      await eventually(() => {
        expect(server.requests.length).toBe(count);
        expect(clock.sleeping).toBe(1);
      });
      return bodies();
    },
  };
}

const MINUTE = 60_000;

test('a task is protected while jobs run, renewed, and released after it was idle for a while', async () => {
  const { protection, clock, asked, events } = await agent(DONE, DONE, DONE);
  expect(await asked(0)).toEqual([]);
  protection.busy(1);
  expect(await asked(1)).toEqual([ON]);
  protection.busy(2);
  protection.busy(1);
  await clock.advance(5 * MINUTE - 1);
  expect(await asked(1)).toHaveLength(1);
  await clock.advance(1);
  expect(await asked(2)).toEqual([ON, ON]);
  protection.busy(0);
  protection.busy(0);
  await asked(2);
  await clock.advance(29_999);
  expect(await asked(2)).toHaveLength(2);
  await clock.advance(1);
  expect(await asked(3)).toEqual([ON, ON, OFF]);
  expect(events).toEqual([]);
});

test('consecutive jobs cause no more requests than one long job', async () => {
  const { protection, clock, asked } = await agent(DONE, DONE);
  for (let i = 0; i < 10; i++) {
    protection.busy(1);
    await asked(1);
    protection.busy(0);
    await asked(1);
    await clock.advance(29_000);
  }
  await clock.advance(30_000);
  expect(await asked(2)).toEqual([ON, OFF]);
});

test('a task that ends while it is protected releases the protection', async () => {
  const { protection, asked, bodies } = await agent(DONE, DONE);
  protection.busy(1);
  await asked(1);
  await protection[Symbol.asyncDispose]();
  expect(bodies()).toEqual([ON, OFF]);
});

describe('protection that fails', () => {
  test('is reported once for each reason, and requested again a minute later', async () => {
    const { protection, clock, asked, events } = await agent(
      failing('DEPLOYMENT_BLOCKED'),
      failing('DEPLOYMENT_BLOCKED'),
      answering({ error: { Arn: ARN, Code: 'AccessDeniedException', Message: 'not authorized' } }, 400),
      { status: 502, body: '<html>' },
      DONE,
      DONE,
    );
    protection.busy(1);
    for (let i = 1; i <= 4; i++) {
      await asked(i);
      await clock.advance(MINUTE);
    }
    await asked(5);
    expect(events).toMatchObject([
      { type: 'warning', message: expect.stringContaining('a deployment waits for protected tasks') },
      { type: 'warning', message: expect.stringContaining('the task role needs ecs:UpdateTaskProtection') },
      { type: 'warning', message: expect.stringContaining('jobs go on, and are given back') },
    ]);
  });

  test('is not requested again by a task without a service', async () => {
    const { protection, clock, events } = await agent(failing('TASK_NOT_VALID'));
    protection.busy(1);
    await eventually(() => expect(events).toHaveLength(1));
    expect(events[0]).toMatchObject({ message: expect.stringContaining('it belongs to no service') });
    protection.busy(0);
    protection.busy(1);
    await clock.advance(10 * MINUTE);
    expect(clock.sleeping).toBe(0);
  });

  test('stops nothing when the agent does not answer', async () => {
    const clock = manualClock();
    const events: Event[] = [];
    await using protection = protectTask({
      agentUri: 'http://127.0.0.1:1/',
      clock,
      report: (event) => void events.push(event),
    });
    protection.busy(1);
    protection.busy(0);
    await eventually(() => expect(clock.sleeping).toBe(1));
    protection.busy(1);
    await eventually(() => expect(events).toHaveLength(1));
  });
});
