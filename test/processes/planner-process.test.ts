// The planner as it is started: as a command, as a long-running process, and as a Lambda.
import { execFile } from 'node:child_process';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { formatRule } from '../../worker/rules/config.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { connectService } from '../../worker/main/wire.ts';
import { eventually } from '../support/eventually.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { rule } from '../support/rules.ts';
import { startWorker } from '../support/worker-process.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, bucket, environment } = lab.stack;
const service = connectService(readSettings(environment));
afterAll(async () => service[Symbol.asyncDispose]());

/** A rule with one image, stored until the test ends. */
async function store(name: string): Promise<void> {
  await lab.push(await makeImage({ layers: [100] }), registry, name);
  const keep = rule({
    name,
    from: [`${registry.registryHost}/${name}`],
    to: [`s3://${bucket}/{repository}/{tag}.tar`],
  });
  const { revision } = await service.state.rules.put({ name, document: formatRule(keep) }, 0);
  onTestFinished(async () => service.state.rules.remove(name, revision));
}

async function once(
  ...args: readonly string[]
): Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['worker/main/container.ts', 'planner', '--once', ...args],
      { env: { ...environment, AWS_EC2_METADATA_DISABLED: 'true' } },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
    );
  });
}

test('plans once, and prints the result', async () => {
  await store('once');
  const first = await once();
  expect(first).toMatchObject({ code: 0, stdout: '1 of 1 rules was due\n' });
  expect(first.stderr).toContain('rule once: 1 job\n');
  const second = await once('--json');
  expect(JSON.parse(second.stdout)).toEqual({ rules: 1, begun: 0, late: 0, failed: 0, incomplete: 0, resent: 0 });
  const { revision } = await service.state.rules.put({ name: 'broken', document: '{}' }, 0);
  onTestFinished(async () => service.state.rules.remove('broken', revision));
  expect(await once()).toMatchObject({ code: 3, stdout: '0 of 2 rules were due, 1 could not be planned\n' });
});

test('finds nothing to do after a worker copied everything, signatures too', async () => {
  const { ecr, otherEcr } = lab.stack;
  await lab.push(await makeImage({ layers: [100], signed: true }), ecr, 'signed');
  const keep = rule({
    name: 'signed',
    from: [`${ecr.registryHost}/signed`],
    to: [`${otherEcr.registryHost}/{repository}`],
    schedule: { cron: '* * * * * *', timeZone: 'UTC' },
  });
  const { revision } = await service.state.rules.put({ name: 'signed', document: formatRule(keep) }, 0);
  onTestFinished(async () => service.state.rules.remove('signed', revision));
  expect((await once()).stderr).toContain('rule signed: 1 job\n');
  await using worker = startWorker(environment);
  await untilEnded('signed', worker.lines);
  expect((await once()).stderr).toContain('rule signed: 0 jobs, 1 unchanged');
});

/** Waits until the newest run of the rule has ended. */
async function untilEnded(name: string, lines: readonly unknown[]): Promise<void> {
  await eventually(
    async () => {
      const [run] = await service.state.runs.list({ rule: name, limit: 1 });
      if (run?.endedAtMs === undefined) throw new Error(`the run goes on: ${JSON.stringify(lines)}`);
    },
    { intervalMs: 100 },
  );
}

test('runs until it is stopped', async () => {
  await store('forever');
  await using planner = startWorker(environment, ['planner', '--every', '1s']);
  expect(await planner.event('run-planned')).toMatchObject({ rule: 'forever', jobs: 1, level: 'info' });
  planner.kill('SIGTERM');
  expect(await planner.ended).toBe(0);
  expect(planner.stderr).toBe('');
  // the metrics of the pass were written when it was over
  expect(planner.lines.some((line) => '_aws' in line && line['JobsPlanned'] !== undefined)).toBe(true);
});

test.each(['planner', 'planner --once'])(
  'exits at once where the queue or the table does not exist (%s)',
  async (command) => {
    for (const wrong of ['TRANSSHIP_QUEUE_URL', 'TRANSSHIP_TABLE']) {
      await using planner = startWorker({ ...environment, [wrong]: `${environment[wrong]}-other` }, command.split(' '));
      expect(await planner.ended).toBe(1);
      expect(planner.stderr).toMatch(/there is no such (queue|table): check its/);
    }
  },
);

test('is a Lambda that fails where it could serve no rule', async () => {
  await store('lambda');
  Object.assign(process.env, environment);
  const { handler } = await import('../../worker/main/planner.lambda.ts');
  const context = { getRemainingTimeInMillis: () => 60_000 };
  expect(await handler({}, context)).toMatchObject({ rules: 1, begun: 1, failed: 0 });
  const [stored] = await service.state.rules.list();
  await service.state.rules.remove('lambda', stored?.revision ?? 0);
  const { revision } = await service.state.rules.put({ name: 'broken', document: '{}' }, 0);
  onTestFinished(async () => service.state.rules.remove('broken', revision));
  await expect(handler({}, context)).rejects.toMatchObject({ message: expect.stringContaining('all 1 rules failed') });
});
