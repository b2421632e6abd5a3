import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import type { DeletingBackends } from '../../worker/images/deletions.ts';
import { inventories } from '../../worker/images/inventories.ts';
import { parsePrunePlace } from '../../worker/images/prune-places.ts';
import { formatRule, parseConfig } from '../../worker/rules/config.ts';
import { destinationKey } from '../../worker/rules/destinations.ts';
import { OpenJobs } from '../../worker/service/cleaner/open-jobs.ts';
import { isWrittenNow } from '../../worker/service/cleaner/holds.ts';
import { runCleaner, type CleanOptions, type CleanResult } from '../../worker/service/cleaner/pass.ts';
import { prunedPlace, pruneLock } from '../../worker/service/place-uses.ts';
import { enqueueRule } from '../../worker/service/admin/enqueue.ts';
import { statusOfRules } from '../../worker/service/admin/status.ts';
import { parseMessage } from '../../worker/queue/job.ts';
import type { Run, StateStore } from '../../worker/state/state.ts';
import { stateOver } from '../../worker/state/store.ts';
import type { Event } from '../../worker/util/events.ts';
import { CrashPoints, crashed } from '../support/crash.ts';
import { crashingTable, slowTable } from '../support/faulty-table.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { mirrorJob, NO_JOBS, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, bucket } = lab.stack;
const DAY_MS = 24 * 3600_000;

const at = (where: LocalRegistry, name: string, tag = 'v1'): string => `docker://${where.registryHost}/${name}:${tag}`;

/** A service whose time is ten days after all that the test pushes, with these rules. */
async function service(rules: string): Promise<TestService> {
  const t = testService();
  await t.clock.advance(Date.now() + 10 * DAY_MS - t.clock.now());
  await applied(t, rules);
  return t;
}

async function applied(t: TestService, rules: string): Promise<void> {
  for (const rule of parseConfig(`version: 1\nrules:\n${rules}`).rules)
    await t.state.rules.put({ name: rule.name, document: formatRule(rule) }, 0);
}

interface CleanerParts extends Partial<CleanOptions> {
  readonly state?: StateStore;
  readonly backends?: DeletingBackends;
  readonly events?: Event[];
}

async function clean(t: TestService, parts: CleanerParts = {}): Promise<CleanResult> {
  const { state = t.state, backends = lab.session().backends, events = [], ...options } = parts;
  const reportOf = () => (event: Event) => void events.push(event);
  return runCleaner(state, { use: async (work) => work(backends) }, { clock: t.clock, reportOf, ...options });
}

/** Pushes one-platform images, one for each tag. */
async function push(where: LocalRegistry, repository: string, tags: readonly string[], seed = 1): Promise<void> {
  for (const [index, tag] of tags.entries())
    await lab.push(
      await makeImage({ seed: seed * 100 + index, tag, layers: [300], platforms: ['linux/amd64'] }),
      where,
      repository,
    );
}

async function tagsIn(where: LocalRegistry, repository: string): Promise<readonly string[]> {
  const { backends, options } = lab.session();
  const place = parsePrunePlace(`${where.registryHost}/${repository}`);
  const found = await Array.fromAsync(inventories([place], backends, options));
  return found.flatMap(({ items }) => items.flatMap(({ tags }) => tags)).sort();
}

async function runOf(t: TestService, rule: string): Promise<Run> {
  const [run] = await t.state.runs.list({ rule, limit: 1 });
  if (run === undefined) throw new Error(`rule ${rule} has no run`);
  return run;
}

const of = <T extends Event['type']>(events: readonly Event[], type: T): readonly Extract<Event, { type: T }>[] =>
  events.filter((event): event is Extract<Event, { type: T }> => event.type === type);

describe('a Cleaner', () => {
  test('runs a rule at its scheduled times: each repository by its own policy, and nothing without one', async () => {
    const tags = ['prod-1', 'prod-2', 'pr-1', 'pr-2'];
    for (const name of ['due/prod', 'due/test', 'due/other']) await push(ecr, name, tags);
    const t = await service(`
  - name: clean
    prune:
      at: ${ecr.registryHost}/due/*
      policies:
        - repositories: due/prod
          keepTags: [prod-*]
          keepLast: 1
        - repositories: due/test
          deleteTags: [pr-*]
`);
    const events: Event[] = [];
    expect(await clean(t, { events })).toEqual({
      ...{ rules: 1, begun: 1, open: 0, late: 0, failed: 0 },
      places: { done: 2, skipped: 1, postponed: 0, failed: 0 },
    });
    // the newest was pushed last
    expect(await tagsIn(ecr, 'due/prod')).toEqual(['pr-2', 'prod-1', 'prod-2']);
    expect(await tagsIn(ecr, 'due/test')).toEqual(['prod-1', 'prod-2']);
    expect(await tagsIn(ecr, 'due/other')).toEqual([...tags].sort());
    expect(of(events, 'pruned').map(({ place, tags: gone }) => `${place.split('/').at(-1)} ${gone.join()}`)).toEqual([
      'prod pr-1',
      'test pr-1',
      'test pr-2',
    ]);
    const run = await runOf(t, 'clean');
    expect(run).toMatchObject({ trigger: 'schedule', jobs: { ...NO_JOBS, done: 2, skipped: 1 }, deletes: 3, unchanged: 9 });
    expect(run.endedAtMs).toBeDefined();
    const [status] = await statusOfRules(t.state, { clock: t.clock });
    expect(status).toMatchObject({ name: 'clean', kind: 'prune', faults: [] });
    expect(status?.nextTickMs).toBeGreaterThan(t.clock.now());

    // not due again before its next time; then there is nothing to delete
    expect(await clean(t)).toMatchObject({ begun: 0, places: { done: 0, skipped: 0 } });
    await t.clock.advance(DAY_MS);
    expect(await clean(t)).toMatchObject({ begun: 1, places: { done: 0, skipped: 3 } });
    // asked for by hand
    await enqueueRule('clean', { ...t, deadLetters: t.deadLetters }, { clock: t.clock });
    expect(t.queue.bodies).toEqual([]);
    expect(await clean(t)).toMatchObject({ begun: 0, places: { skipped: 3 } });
    expect(await runOf(t, 'clean')).toMatchObject({ trigger: 'request', jobs: { skipped: 3, failed: 0 } });
  });
});
