// A planner and a worker that are killed at any write of the table or the queue, in runs that end with a snapshot.
import { afterAll, expect, test } from 'vitest';
import type { Message, Queue } from '../../worker/queue/queue.ts';
import { formatRule, parseConfig } from '../../worker/rules/config.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { Failure } from '../../worker/util/failure.ts';
import { CrashPoints } from '../support/crash.ts';
import { crashingTable } from '../support/faulty-table.ts';
import { makeImage } from '../support/images.ts';
import { openLab, type Session } from '../support/lab.ts';
import { deadLettersOf, testService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr } = lab.stack;
const HOUR_MS = 3_600_000;

const image = await makeImage({ seed: 1, tag: 'v1', platforms: ['linux/amd64'], layers: [100] });

function dyingQueue(queue: Queue, points: CrashPoints): Queue {
  return {
    name: queue.name,
    receive: async (max, o) => {
      points.alive();
      return queue.receive(max, o);
    },
    send: async (messages: readonly Message[], o) => {
      points.point();
      await queue.send(messages, o);
      points.point();
    },
    count: async (o) => queue.count(o),
  };
}

test.each([
  ['a store', (name: string): string => `store:s3://${bucket}/${name}/`],
  ['archives', (name: string): string => `s3://${bucket}/${name}/{repository}/{tag}.tar`],
])(
  'ends the run of %s with a snapshot, wherever the planner or the worker is killed',
  { timeout: 600_000 },
  async (kind, to) => {
    for (let at = 1; ; at++) {
      const name = `crash-${kind.replace(' ', '-')}-${at}`;
      await lab.push(image, ecr, `${name}/app`);
      const text = `version: 1\nrules: [{ name: ${name}, schedule: '0 * * * *', backup: { from: '${ecr.registryHost}/${name}/*', to: '${to(name)}' } }]\n`;
      const [rule] = parseConfig(text).rules;
      if (rule === undefined) throw new Failure('BUG', 'there is no rule');
      const t = testService();
      await t.state.rules.put({ name, document: formatRule(rule) }, 0);
      const { backends } = lab.session();
      const use = async <T>(work: (opened: Session['backends']) => Promise<T>): Promise<T> => work(backends);
      const points = new CrashPoints(at);
      const { table } = crashingTable(t.table, points);
      const dying = t.worker(backends, { table, queue: dyingQueue(t.queue, points) });
      await runPass(dying.context.service, { use }, { clock: t.clock }).catch(() => undefined);
      for (let message = 0; message < 5 && points.count < at; message++) await dying.next().catch(() => undefined);
      // until its leases have expired, and lost messages are sent again
      const worker = t.worker(backends);
      for (let round = 0; round < 3; round++) {
        await t.clock.advance(HOUR_MS / 3);
        await runPass(t, { use }, { clock: t.clock });
        await worker.drain();
      }
      const runs = await t.state.runs.list({ rule: name });
      for (const run of runs)
        expect(run, `killed at ${at}`).toMatchObject({ endedAtMs: expect.any(Number), jobs: { failed: 0 } });
      const snapshots = openSnapshots({ store: backends.bucket(bucket), prefix: `${name}/` });
      const { snapshot } = await snapshots.read('latest');
      expect(snapshot.repositories.map(({ images }) => images.map(({ tags }) => tags))).toEqual([[['v1']]]);
      expect(snapshot.failures).toEqual([]);
      expect(await deadLettersOf(t)).toEqual([]);
      if (points.count < at) break;
    }
  },
);
