import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { parseMessage, type Job } from '../../worker/queue/job.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { deadLettersOf, expectEnded, mirrorJob, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry } = lab.stack;

let images = 0;
const at = (where: LocalRegistry, name: string, tag = 'v1'): string => `docker://${where.registryHost}/${name}:${tag}`;

async function pushed(name: string): Promise<string> {
  await lab.push(await makeImage({ seed: 7000 + ++images }), registry, name);
  return at(registry, name);
}

/** The job that waits in the queue. */
function waiting(t: TestService): Job {
  const message = parseMessage(t.queue.bodies[0] ?? '');
  if (message.type !== 'job') throw new Error(`the queue holds a message of type ${message.type}`);
  return message.job;
}

const isThere = async (where: LocalRegistry, name: string): Promise<boolean> =>
  (await lab
    .view(where, name)
    .resolve('v1')
    .catch(() => undefined)) !== undefined;

describe('a message that claims to be a job of the state', () => {
  test.each([
    ['another destination', (to: string): object => ({ to: [to] })],
    ['another kind of work', (to: string): object => ({ kind: 'verify', from: to, to: undefined })],
    ['another rule', (): object => ({ rule: 'other' })],
    ['another digest', (): object => ({ digest: `sha256:${'0'.repeat(64)}` })],
  ])('with %s is refused, and the job is done by its own message', async (what, difference) => {
    const t = testService();
    const name = `trust/${what.replaceAll(' ', '-')}`;
    const run = await t.enqueue(mirrorJob(await pushed(name), at(ecr, name)));
    const forged = { ...waiting(t), ...difference(at(otherEcr, name)) };
    const [own = ''] = t.queue.bodies;
    const [delivery] = await t.queue.receive(1, { waitSeconds: 0 });
    await delivery?.settle({ type: 'done' });
    await t.queue.send([{ body: JSON.stringify(forged) }, { body: own }]);
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { done: 1 });
    const [deadLetter, ...others] = await deadLettersOf(t);
    expect(others).toEqual([]);
    expect(deadLetter?.reason).toMatch(/^INVALID: .* job \w+ of run run-1: it differs from the job that the state has/);
    expect(deadLetter?.body).toBe(JSON.stringify(forged));
    expect(await isThere(ecr, name)).toBe(true);
    expect(await isThere(otherEcr, name)).toBe(false);
  });

  test('that the state does not have is refused, and makes no run', async () => {
    const t = testService();
    const name = 'trust/unknown';
    const job = { version: 1, id: 'made-up', run: 'rule-20300101T000000', rule: 'rule', at: '2030-01-01T00:00:00Z' };
    const body = JSON.stringify({ ...job, ...mirrorJob(await pushed(name), at(ecr, name)) });
    await t.queue.send([{ body }]);
    await t.worker(lab.session().backends).drain();
    expect(await t.state.runs.get(job.run)).toBeUndefined();
    expect(await deadLettersOf(t)).toMatchObject([
      { body, reason: expect.stringMatching(/^INVALID: mirror job made-up .*: the state does not have this job/) },
    ]);
    expect(await isThere(ecr, name)).toBe(false);
  });

  test('and cannot be read does not end that job', async () => {
    const t = testService();
    const name = 'trust/unreadable';
    const run = await t.enqueue(mirrorJob(await pushed(name), at(ecr, name)));
    const { id } = waiting(t);
    const [own = ''] = t.queue.bodies;
    const [delivery] = await t.queue.receive(1, { waitSeconds: 0 });
    await delivery?.settle({ type: 'done' });
    await t.queue.send([{ body: JSON.stringify({ version: 2, run, id }) }, { body: own }]);
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { done: 1 });
    expect(await isThere(ecr, name)).toBe(true);
  });
});
