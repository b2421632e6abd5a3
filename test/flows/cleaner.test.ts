import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { backup } from '../../worker/images/backup.ts';
import type { DeletingBackends, Deletions, NotDeleted } from '../../worker/images/deletions.ts';
import { inventories } from '../../worker/images/inventories.ts';
import { parsePrunePlace } from '../../worker/images/prune-places.ts';
import type { Item } from '../../worker/retention/inventory.ts';
import { formatRule, parseConfig } from '../../worker/rules/config.ts';
import { destinationKey } from '../../worker/rules/destinations.ts';
import { OpenJobs } from '../../worker/service/cleaner/open-jobs.ts';
import { isWrittenNow } from '../../worker/service/cleaner/holds.ts';
import { runCleaner, type CleanOptions, type CleanResult } from '../../worker/service/cleaner/pass.ts';
import { prunedPlace, pruneLock } from '../../worker/service/place-uses.ts';
import { enqueueRule } from '../../worker/service/admin/enqueue.ts';
import { statusOfRules } from '../../worker/service/admin/status.ts';
import type { ObjectInfo } from '../../worker/objects/objects.ts';
import { parseMessage, type Job } from '../../worker/queue/job.ts';
import type { Run, StateStore } from '../../worker/state/state.ts';
import { stateOver } from '../../worker/state/store.ts';
import type { Event } from '../../worker/util/events.ts';
import { gated } from '../support/backends.ts';
import { CrashPoints, crashed } from '../support/crash.ts';
import { crashingTable, slowTable } from '../support/faulty-table.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { mirrorJob, NO_JOBS, poolOf, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, bucket } = lab.stack;
const DAY_MS = 24 * 3600_000;

const at = (where: LocalRegistry, name: string, tag = 'v1'): string => `docker://${where.registryHost}/${name}:${tag}`;

/** A service whose clock is ten days after every push of the test, with these rules, which were applied a day before. */
async function service(rules: string): Promise<TestService> {
  const t = testService();
  await t.clock.advance(Date.now() + 9 * DAY_MS - t.clock.now());
  await applied(t, rules);
  await t.clock.advance(DAY_MS);
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
  return runCleaner(state, poolOf(backends), { clock: t.clock, reportOf, ...options });
}

/** Backends whose deletions of images go through `delete_`. */
function deletingBy(
  delete_: (work: () => Promise<readonly NotDeleted[]>, place: string) => Promise<readonly NotDeleted[]>,
): DeletingBackends {
  const { backends } = lab.session();
  const images: Deletions['images'] = (host, repository) => {
    const inner = backends.deletions.images(host, repository);
    return {
      ...inner,
      deleteImages: async (digests, options) =>
        delete_(async () => inner.deleteImages(digests, options), `${host}/${repository}`),
      removeTags: async (tags, options) => inner.removeTags(tags, options),
    };
  };
  return { ...backends, deletions: { ...backends.deletions, images } };
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

async function itemsIn(where: LocalRegistry, repository: string): Promise<readonly Item[]> {
  const { backends, options } = lab.session();
  const place = parsePrunePlace(`${where.registryHost}/${repository}`);
  const found = await Array.fromAsync(inventories([place], backends, options));
  return found.flatMap(({ items }) => items);
}

async function tagsIn(where: LocalRegistry, repository: string): Promise<readonly string[]> {
  return (await itemsIn(where, repository)).flatMap(({ tags }) => tags).sort();
}

async function runOf(t: TestService, rule: string): Promise<Run> {
  const [run] = await t.state.runs.list({ rule, limit: 1 });
  if (run === undefined) throw new Error(`rule ${rule} has no run`);
  return run;
}

function jobIn(body = ''): Job {
  const message = parseMessage(body);
  if (message.type !== 'job') throw new Error('no job');
  return message.job;
}

const of = <T extends Event['type']>(events: readonly Event[], type: T): readonly Extract<Event, { type: T }>[] =>
  events.filter((event): event is Extract<Event, { type: T }> => event.type === type);

describe('a Cleaner', () => {
  test('deletes nothing by a rule that is new or was changed, before its next scheduled time', async () => {
    await push(ecr, 'new/app', ['v1', 'pr-1']);
    const t = testService();
    await t.clock.advance(Date.now() + DAY_MS - t.clock.now());
    await applied(t, `  - { name: new, prune: { at: ${ecr.registryHost}/new/app, deleteTags: [pr-*] } }`);
    expect(await clean(t)).toMatchObject({ rules: 1, begun: 0 });
    expect(await tagsIn(ecr, 'new/app')).toEqual(['pr-1', 'v1']);
    await t.clock.advance(DAY_MS);
    expect(await clean(t)).toMatchObject({ begun: 1, places: { done: 1 } });
    expect(await tagsIn(ecr, 'new/app')).toEqual(['v1']);
  });

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
      scratch: { deleted: 0, failed: 0 },
      rules: 1,
      begun: 1,
      open: 0,
      late: 0,
      failed: 0,
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
    expect(run).toMatchObject({
      trigger: 'schedule',
      jobs: { ...NO_JOBS, done: 2, skipped: 1 },
      deletes: 3,
      unchanged: 9,
    });
    expect(run.endedAtMs).toBeDefined();
    const [status] = await statusOfRules(t.state, { clock: t.clock });
    expect(status).toMatchObject({ name: 'clean', kind: 'prune', faults: [] });
    expect(status?.nextScheduledAtMs).toBeGreaterThan(t.clock.now());

    // not due again before its next time; then there is nothing to delete
    expect(await clean(t)).toMatchObject({ begun: 0, places: { done: 0, skipped: 0 } });
    await t.clock.advance(DAY_MS);
    expect(await clean(t)).toMatchObject({ begun: 1, places: { done: 0, skipped: 3 } });
    // requested by hand
    await enqueueRule('clean', { ...t, deadLetters: t.deadLetters }, { clock: t.clock });
    expect(t.queue.bodies).toEqual([]);
    expect(await clean(t)).toMatchObject({ begun: 0, places: { skipped: 3 } });
    expect(await runOf(t, 'clean')).toMatchObject({ trigger: 'request', jobs: { skipped: 3, failed: 0 } });
  });

  test('does a run that a message asks for, and leaves the job of the message to a worker', async () => {
    await push(ecr, 'message/app', ['x1', 'keep']);
    const t = await service(`
  - name: clean
    prune: { at: ${ecr.registryHost}/message/app, deleteTags: [x*] }
`);
    const message = { version: 1, kind: 'plan', rule: 'clean', after: { repository: '', name: '' } };
    await t.queue.send([{ body: JSON.stringify(message) }]);
    expect(await t.worker(lab.session().backends).next()).toMatchObject({ outcome: { type: 'done' } });
    // no worker has done the job of the other one yet
    await t.state.runs.begin({ id: 'asked', rule: 'clean', trigger: 'request', whole: true });
    await t.state.runs.addJobs('asked', [{ id: 'job', title: 'plan clean', fingerprint: 'of a message' }]);
    expect(await clean(t)).toMatchObject({ begun: 1, places: { done: 1, skipped: 2, failed: 0 } });
    expect(await tagsIn(ecr, 'message/app')).toEqual(['keep']);
    expect(await t.state.runs.job('asked', 'job')).toMatchObject({ state: 'waiting' });
    await t.state.runs.endJob('asked', 'job', { state: 'done' });
    const runs = await t.state.runs.list({ rule: 'clean' });
    expect(runs.map(({ endedAtMs, jobs }) => endedAtMs !== undefined && jobs.failed === 0)).toEqual([true, true, true]);
  });
});

describe('limits of a rule', () => {
  test('apply to all its repositories together, and a dry run deletes nothing', async () => {
    for (const name of ['limit/a', 'limit/b']) await push(ecr, name, ['x1', 'x2', 'x3', 'keep']);
    const rule = (more: string): string => `
  - name: clean
    prune: { at: "${ecr.registryHost}/limit/*", deleteTags: [x*], ${more} }
`;
    const t = await service(rule('maxDeletes: 4, dryRun: true'));
    const events: Event[] = [];
    expect(await clean(t, { events })).toMatchObject({ places: { skipped: 2 } });
    expect(of(events, 'prune-planned')).toHaveLength(6);
    expect(of(events, 'pruned')).toEqual([]);
    await t.state.rules.remove('clean', 1);
    await applied(t, rule('maxDeletes: 4'));
    await t.clock.advance(DAY_MS);
    // the Cleaner has time for one repository, and continues in the next pass
    let asked = 0;
    const clock = { ...t.clock, now: () => t.clock.now() + (asked++ > 3 ? 1000 : 0) };
    events.length = 0;
    expect(await clean(t, { events, clock, untilMs: t.clock.now() + 500 })).toMatchObject({ begun: 1, open: 1 });
    const first = of(events, 'pruned').length;
    expect(first).toBeLessThan(4);
    expect(await clean(t, { events })).toMatchObject({ begun: 0, open: 0 });
    expect(of(events, 'pruned')).toHaveLength(4);
    expect(of(events, 'place-pruned').at(-1)).toMatchObject({ left: 2 });
    await t.clock.advance(DAY_MS);
    expect(await clean(t, { events })).toMatchObject({ begun: 1 });
    expect(of(events, 'pruned')).toHaveLength(6);
    expect(await tagsIn(ecr, 'limit/b')).toEqual(['keep']);
  });

  test('are read again before each repository: a rule that was changed stops, and repositories that it no longer names stay', async () => {
    for (const name of ['changed/a', 'changed/b', 'changed/c']) await push(ecr, name, ['x1', 'keep']);
    const rule = (names: string): string => `
  - name: clean
    prune: { at: "${ecr.registryHost}/changed/{${names}}", deleteTags: [x*] }
`;
    const t = await service(rule('a,b,c'));
    const backends = deletingBy(async (work) => {
      await t.state.rules.remove('clean', 1);
      await applied(t, rule('a,c'));
      return work();
    });
    expect(await clean(t, { backends })).toMatchObject({ begun: 1, open: 1, places: { done: 1 } });
    expect(await clean(t)).toMatchObject({ begun: 0, open: 0, places: { done: 1, skipped: 1 } });
    expect(await tagsIn(ecr, 'changed/b')).toEqual(['keep', 'x1']);
    expect(await tagsIn(ecr, 'changed/c')).toEqual(['keep']);
  });

  test('apply to one place: a registry that does not answer and a policy that would keep nothing are reported, the others are pruned', async () => {
    await push(ecr, 'fails/app', ['x1', 'keep']);
    await push(ecr, 'fails/empty', ['x1']);
    const t = await service(`
  - name: clean
    prune: { at: ["127.0.0.1:1/gone/*", "${ecr.registryHost}/fails/*"], deleteTags: [x*] }
`);
    const events: Event[] = [];
    expect(await clean(t, { events })).toMatchObject({ failed: 0, open: 0, places: { done: 1, failed: 1 } });
    expect(await tagsIn(ecr, 'fails/empty')).toEqual(['x1']);
    expect(await tagsIn(ecr, 'fails/app')).toEqual(['keep']);
    expect(of(events, 'prune-failed').map(({ place }) => place)).toEqual([
      '127.0.0.1:1/gone/*',
      `${ecr.registryHost}/fails/empty`,
    ]);
    expect(of(events, 'prune-failed').at(-1)?.message).toMatch(
      /: the policy would keep nothing: change the policy so that /,
    );
    expect(await runOf(t, 'clean')).toMatchObject({ jobs: { done: 1, failed: 2 } });
    const [status] = await statusOfRules(t.state, { clock: t.clock });
    expect(status?.faults).toEqual([expect.stringContaining('its last run had failures')]);
  });

  test('keep images without a recorded backup, and those whose archive was changed since', async () => {
    const repository = 'backed/app';
    await push(ecr, repository, ['none', 'good', 'overwritten', 'keep']);
    const t = await service(`
  - name: nightly
    backup: { from: ${ecr.registryHost}/backed/*, to: "s3://${bucket}/backed/" }
    schedule: "0 5 * * *"
  - name: clean
    prune: { at: ${ecr.registryHost}/backed/*, keepTags: [keep], keepDays: 1, requireBackup: "s3://${bucket}/backed/" }
`);
    const { backends } = lab.session();
    const archive = (tag: string): string => `s3://${bucket}/backed/us-east-1/${repository}/${tag}.tar`;
    const jobs = ['good', 'overwritten'].map((tag) => ({
      kind: 'backup' as const,
      from: at(ecr, repository, tag),
      to: [archive(tag)],
    }));
    await t.enqueue(...jobs);
    await t.worker(backends).drain();
    await backends.bucket(bucket).write(`backed/us-east-1/${repository}/overwritten.tar`, Buffer.from('not that'));
    const events: Event[] = [];
    expect(await clean(t, { events })).toMatchObject({ places: { done: 1, failed: 0 } });
    expect(await tagsIn(ecr, repository)).toEqual(['keep', 'none', 'overwritten']);
    expect(of(events, 'pruned')).toMatchObject([{ tags: ['good'], reason: 'older than 1 day' }]);
  });
});

describe('a Cleaner of archives', () => {
  /** An image of each repository, archived under each of these prefixes. */
  async function archived(repositories: readonly string[], prefixes: readonly string[]): Promise<void> {
    const { backends, options } = lab.session();
    for (const repository of repositories) {
      await push(ecr, repository, ['v1']);
      for (const prefix of prefixes) {
        const to = `s3://${bucket}/${prefix}/{repository}/{tag}.tar`;
        await backup({ from: at(ecr, repository), to }, backends, options);
      }
    }
  }

  const keysBelow = async (prefix: string): Promise<readonly string[]> => {
    const found = lab.session().backends.bucket(bucket).list(prefix);
    return Array.fromAsync(found, ({ key }) => key.slice(prefix.length)).then((keys) =>
      keys.filter((key) => key.endsWith('.tar')),
    );
  };

  test('reads each archive once, where days come before repositories in keys', async () => {
    await archived(['once/a', 'once/b', 'once/c'], ['once/2026-11-01', 'once/2026-11-02']);
    const t = await service(`
  - name: clean
    prune: { at: "s3://${bucket}/once/", keepLast: 1 }
`);
    const before = lab.stack.s3.requests.length;
    expect(await clean(t)).toMatchObject({ places: { done: 3 } });
    const asked = lab.stack.s3.requests.slice(before).filter(({ operation }) => operation === 'HeadObject');
    expect(asked).toHaveLength(6);
    expect(await keysBelow('once/')).toHaveLength(3);
  });

  test('prunes the prefix of one day, and no other day', async () => {
    await archived(['day/a'], ['day/2026-11-01/2026-11-01', 'day/2026-11-02/2026-11-01', 'day/2026-11-02/2026-11-02']);
    const t = await service(`
  - name: clean
    prune: { at: "s3://${bucket}/day/2026-11-02/", keepLast: 1 }
`);
    expect(await clean(t)).toMatchObject({ places: { done: 1, failed: 0 } });
    expect(await keysBelow('day/')).toEqual([
      '2026-11-01/2026-11-01/day/a/v1.tar',
      '2026-11-02/2026-11-02/day/a/v1.tar',
    ]);
  });

  test('keeps the previous archive where the newest is not as a worker wrote it', async () => {
    await push(ecr, 'torn/app', ['v1']);
    const t = await service(`
  - name: clean
    prune: { at: "s3://${bucket}/torn/", keepLast: 1 }
`);
    const { backends } = lab.session();
    const key = (day: number): string => `torn/app/v1-2026-11-0${day}.tar`;
    for (const day of [1, 2, 3])
      await t.enqueue({ kind: 'backup', from: at(ecr, 'torn/app'), to: [`s3://${bucket}/${key(day)}`] });
    await t.worker(backends).drain();
    const { metadata } = await backends.bucket(bucket).stat(key(3));
    await backends.bucket(bucket).write(key(3), Buffer.from('cut off'), { metadata });
    expect(await clean(t)).toMatchObject({ places: { done: 1 } });
    expect(await keysBelow('torn/')).toEqual(['app/v1-2026-11-02.tar', 'app/v1-2026-11-03.tar']);
  });
});

describe('a Cleaner beside workers', () => {
  const rule = (place: string): string => `
  - name: clean
    prune: { at: "${place}", deleteTags: [x*], untaggedAfterDays: 1 }
`;

  test('keeps what a waiting copy names and the last snapshot, and deletes the rest', async () => {
    await push(ecr, 'waiting/app', ['x1', 'x2', 'x3', 'latest', 'keep']);
    const t = await service(`${rule(`${ecr.registryHost}/waiting/*`)}
  - name: files
    publish: { from: "s3://${bucket}/files/", to: ${ecr.registryHost}/waiting/app }
    schedule: "0 5 1 1 *"
`);
    await t.enqueue(mirrorJob(at(ecr, 'waiting/app', 'x1'), at(otherEcr, 'waiting/copy', 'x1')));
    expect(await clean(t)).toMatchObject({ places: { done: 1 } });
    expect(await tagsIn(ecr, 'waiting/app')).toEqual(['keep', 'latest', 'x1']);
    // the copy is done by the next run
    await t.worker(lab.session().backends).drain();
    await t.clock.advance(DAY_MS);
    await clean(t);
    expect(await tagsIn(ecr, 'waiting/app')).toEqual(['keep', 'latest']);
  });

  test('leaves alone what a worker is reading and where it is writing, in the middle of its copy', async () => {
    const image = await makeImage({ tag: 'x1', signed: true, layers: [300] });
    await lab.push(image, ecr, 'middle/from');
    await push(ecr, 'middle/from', ['x2', 'keep']);
    await push(otherEcr, 'middle/to', ['x3', 'keep']);
    const t = await service(`
  - name: clean
    prune: { at: ["${ecr.registryHost}/middle/from", "${otherEcr.registryHost}/middle/to"], deleteTags: [x*] }
`);
    const session = lab.session();
    const gate = gated(session.backends);
    const run = await t.enqueue(mirrorJob(at(ecr, 'middle/from', 'x1'), at(otherEcr, 'middle/to', 'x1')));
    const copying = t.worker(gate.backends).next();
    await gate.reached;
    const events: Event[] = [];
    expect(await clean(t, { events })).toMatchObject({ places: { done: 1, postponed: 1, failed: 0 } });
    expect(of(events, 'pruned').map(({ tags }) => tags.join())).toEqual(['x2']);
    gate.open();
    expect(await copying).toMatchObject({ outcome: { type: 'done' } });
    expect(await t.run(run)).toMatchObject({ jobs: { done: 1 } });
    await expectSameImage(image.content, lab.view(otherEcr, 'middle/to'), image.root);
    // the run continues where it waited
    expect(await clean(t, { events })).toMatchObject({ begun: 0, places: { done: 1, postponed: 0 } });
    expect(await tagsIn(otherEcr, 'middle/to')).toEqual(['keep']);
  });

  test('deletes old archives, except one that a waiting restore names and the newest', async () => {
    await push(ecr, 'archived/app', ['v1']);
    const t = await service(`
  - name: clean
    prune: { at: "s3://${bucket}/cleaned/", keepLast: 1 }
`);
    const { backends } = lab.session();
    const key = (day: number): string => `cleaned/app/v1-2026-11-0${day}.tar`;
    const days = [1, 2, 3, 4];
    for (const day of days) {
      await t.enqueue({ kind: 'backup', from: at(ecr, 'archived/app'), to: [`s3://${bucket}/${key(day)}`] });
      await t.worker(backends).drain();
    }
    const archives = async (): Promise<readonly ObjectInfo[]> =>
      (await Array.fromAsync(backends.bucket(bucket).list('cleaned/'))).filter(({ key: name }) =>
        name.endsWith('.tar'),
      );
    // they were created in this order; of those of one moment the last key counts as the newest
    const [newest, held, ...others] = (await archives()).map((info) => info.key).toReversed();
    const from = `s3://${bucket}/${held}`;
    const waiting = await t.enqueue({ kind: 'restore', from, to: at(otherEcr, 'archived/back') });
    const events: Event[] = [];
    expect(await clean(t, { events })).toMatchObject({ places: { done: 1, failed: 0 } });
    const pruned = of(events, 'pruned').map(({ kind, id }) => `${kind} ${id}`);
    expect(pruned.sort()).toEqual(others.map((id) => `archives ${id}`).sort());
    await t.worker(backends).drain();
    expect(await t.run(waiting)).toMatchObject({ jobs: { done: 1 } });
    await t.clock.advance(DAY_MS);
    await clean(t);
    expect((await archives()).map((info) => info.key)).toEqual([newest]);
    // the settings of the repository belong to what remains
    expect((await backends.bucket(bucket).stat('cleaned/app/repository.json')).size).toBeGreaterThan(0);
  });

  test('waits while a copy is writing to a repository, by its job or by its lease, and continues in a later pass', async () => {
    await push(ecr, 'written/app', ['x1', 'keep']);
    const t = await service(rule(`${ecr.registryHost}/written/*`));
    const run = await t.enqueue(mirrorJob(at(otherEcr, 'from/app', 'v1'), at(ecr, 'written/app', 'v1')));
    const job = jobIn(t.queue.bodies[0]);
    await t.state.runs.startJob(run, job.id);
    const events: Event[] = [];
    expect(await clean(t, { events })).toMatchObject({ begun: 1, open: 1, places: { postponed: 1 } });
    await t.state.runs.endJob(run, job.id, { state: 'done' });
    const named = at(ecr, 'written/app', 'v2');
    const namedByFipsHost = named.replace('.dkr.ecr.', '.dkr.ecr-fips.');
    expect(namedByFipsHost).not.toBe(named);
    for (const destination of [named, namedByFipsHost]) {
      await using lease = await t.state.destinations.lock(destinationKey(destination), 60);
      expect(lease).toBeDefined();
      expect(await clean(t, { events })).toMatchObject({ begun: 0, open: 1, places: { postponed: 1 } });
    }
    expect(of(events, 'pruned')).toEqual([]);
    expect(of(events, 'place-postponed').map(({ message }) => message)).toEqual(
      Array.from({ length: 3 }, () => 'a copy is writing to it'),
    );
    expect(await clean(t, { events })).toMatchObject({ open: 0, places: { done: 1 } });
    expect(await tagsIn(ecr, 'written/app')).toEqual(['keep']);
  });

  test('keeps workers out of a repository that it prunes: the job is handed back, and no attempt is counted', async () => {
    await push(ecr, 'locked/app', ['v1']);
    const t = await service(rule(`${ecr.registryHost}/locked/*`));
    const run = await t.enqueue(mirrorJob(at(ecr, 'locked/app'), at(otherEcr, 'locked/copy')));
    const worker = t.worker(lab.session().backends);
    {
      await using lock = await t.state.lock(pruneLock(`${ecr.registryHost}/locked/app`), 60);
      expect(lock).toBeDefined();
      expect(await worker.next()).toMatchObject({ outcome: { type: 'again' } });
      expect(await t.run(run)).toMatchObject({ jobs: { waiting: 1, running: 0 } });
      const handedBack = `a Cleaner is deleting from ${ecr.registryHost}/locked/app`;
      expect(of(t.events, 'job-handed-back').map(({ message }) => message)).toEqual([handedBack]);
    }
    await worker.drain();
    expect(await t.run(run)).toMatchObject({ jobs: { done: 1 } });
  });

  test('holds the lock of a repository until all of it is deleted', async () => {
    await push(ecr, 'held/app', ['x1', 'x2', 'keep']);
    const t = await service(rule(`${ecr.registryHost}/held/*`));
    const locked: boolean[] = [];
    const backends = deletingBy(async (work, place) => {
      locked.push((await t.state.findLocked([pruneLock(place)])) !== undefined);
      const result = await work();
      locked.push((await t.state.findLocked([pruneLock(place)])) !== undefined);
      return result;
    });
    expect(await clean(t, { backends })).toMatchObject({ places: { done: 1 } });
    expect(locked.length).toBeGreaterThan(0);
    expect(locked).not.toContain(false);
    expect(await t.state.findLocked([pruneLock(`${ecr.registryHost}/held/app`)])).toBeUndefined();
  });

  test.each([['worker'], ['Cleaner']])(
    'one of the two sees the other, wherever the %s pauses while the other runs to its end',
    async (paused) => {
      for (let pauseAt = 0, isPaused = true; isPaused; pauseAt++) {
        const t = testService();
        const run = await t.enqueue(mirrorJob(at(ecr, 'race/a'), at(otherEcr, 'race/b')));
        const sent = jobIn(t.queue.bodies[0]);
        const place = `${otherEcr.registryHost}/race/b`;
        const reached = Promise.withResolvers<void>();
        const gate = Promise.withResolvers<void>();
        let waits = 0;
        const pausing = slowTable(t.table, async () => {
          if (waits++ !== pauseAt) return;
          reached.resolve();
          await gate.promise;
        });
        const stateOf = (who: string): StateStore => (who === paused ? stateOver(pausing, t.clock) : t.state);
        const copies = async (state: StateStore): Promise<boolean> => {
          await state.runs.startJob(run, sent.id);
          return (await prunedPlace(sent, state, {})) === undefined;
        };
        const deletes = async (state: StateStore, jobs: OpenJobs): Promise<boolean> => {
          const lock = await state.lock(pruneLock(place), 60);
          return lock !== undefined && !isWrittenNow(await jobs.at(place, {}));
        };
        // it has seen the job before, as one that waits
        const jobs = new OpenJobs(stateOf('Cleaner').runs, () => true, t.clock);
        const before = waits;
        waits = Infinity;
        await jobs.at(place, {});
        waits = before;
        const work = async (): Promise<boolean> => copies(stateOf('worker'));
        const clear = async (): Promise<boolean> => deletes(stateOf('Cleaner'), jobs);
        const [first, second] = paused === 'worker' ? [work, clear] : [clear, work];
        const one = first();
        await Promise.race([reached.promise, one]);
        const other = await second();
        isPaused = waits > pauseAt;
        gate.resolve();
        expect((await one) && other, `paused at ${pauseAt}`).toBe(false);
      }
    },
  );
});

describe('Cleaners that are killed, and two at once', () => {
  const names = (count: number): readonly string[] => Array.from({ length: count }, (_, i) => `x${i}`);

  test('delete the same in the end as one that is not killed', async () => {
    let repositories = 0;
    /** What is left after a Cleaner that is killed at its n-th write or deletion, and as many more Cleaners as it takes. */
    const killed = async (offset: number): Promise<{ readonly left: readonly string[]; readonly points: number }> => {
      const repository = `killed/r${++repositories}`;
      await lab.push(await makeImage({ tag: 'x1', layers: [30], sharedLayerBytes: 0, signed: true }), ecr, repository);
      await push(ecr, repository, ['x2', 'keep']);
      const t = await service(`
  - name: clean
    prune: { at: ${ecr.registryHost}/${repository}, deleteTags: [x*] }
`);
      const points = new CrashPoints(offset);
      const mortal = deletingBy(async (work) => {
        points.point();
        const result = await work();
        points.point();
        return result;
      });
      const { table } = crashingTable(t.table, points);
      const died = await crashed(
        clean(t, { state: stateOver(table, t.clock), backends: mortal }).then(() => points.alive()),
      );
      expect(died).toBe(offset !== Infinity);
      // the locks of the killed Cleaner have expired by then
      await t.clock.advance(3 * 60_000);
      const next = await clean(t);
      expect(next).toMatchObject({ failed: 0, open: 0, places: { failed: 0, postponed: 0 } });
      const run = await runOf(t, 'clean');
      expect(run.endedAtMs).toBeDefined();
      expect(run.jobs).toMatchObject({ waiting: 0, running: 0, failed: 0 });
      return { left: (await itemsIn(ecr, repository)).map(({ id }) => id).sort(), points: points.count };
    };
    const { left, points } = await killed(Infinity);
    // of the others, an index with two images, signatures and an SBOM, nothing is left
    expect(left).toHaveLength(1);
    expect(points).toBeGreaterThan(20);
    for (let offset = 1; offset <= points; offset += 3)
      expect(await killed(offset), `at ${offset}`).toMatchObject({ left });
  });

  test('share the rules, and delete nothing twice', async () => {
    for (const name of ['both/a', 'both/b']) await push(ecr, name, [...names(3), 'keep']);
    const rules = ['a', 'b']
      .map(
        (name) => `
  - name: clean-${name}
    prune: { at: ${ecr.registryHost}/both/${name}, deleteTags: [x*] }
`,
      )
      .join('');
    const t = await service(rules);
    const events: Event[] = [];
    const results = await Promise.all([clean(t, { events }), clean(t, { events }), clean(t, { events })]);
    expect(results.map(({ failed, places }) => failed + places.failed)).toEqual([0, 0, 0]);
    await clean(t, { events });
    const gone = of(events, 'pruned').map(({ place, id }) => `${place} ${id}`);
    expect(gone).toHaveLength(6);
    expect(new Set(gone).size).toBe(6);
    expect(of(events, 'prune-failed')).toEqual([]);
    for (const name of ['both/a', 'both/b']) expect(await tagsIn(ecr, name)).toEqual(['keep']);
  });
});
