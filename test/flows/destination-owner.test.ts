import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { formatRule, parseConfig } from '../../worker/rules/config.ts';
import { destinationKey } from '../../worker/rules/destinations.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { sync } from '../../worker/service/admin/sync.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { gated } from '../support/backends.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { rule } from '../support/rules.ts';
import { expectEnded, deadLettersOf, mirrorJob, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry } = lab.stack;

let names = 0;
const address = (where: LocalRegistry, name: string, tag = 'v1'): string =>
  `docker://${where.registryHost}/${name}:${tag}`;

async function apply(t: TestService, ...rules: readonly CopyRule[]): Promise<void> {
  for (const one of rules) {
    const stored = (await t.state.rules.list()).find(({ name }) => name === one.name);
    await t.state.rules.put({ name: one.name, document: formatRule(one) }, stored?.revision ?? 0);
  }
}

async function remove(t: TestService, name: string): Promise<void> {
  const stored = (await t.state.rules.list()).find((one) => one.name === name);
  await t.state.rules.remove(name, stored?.revision ?? 0);
}

/** Two images, a rule for each, and one destination. */
interface Pair {
  readonly t: TestService;
  readonly first: CopyRule;
  readonly second: CopyRule;
  readonly images: readonly [MadeImage, MadeImage];
  readonly repository: string;
  readonly from: readonly [string, string];
  readonly to: string;
  /** Does the job of a rule, and returns its run. */
  readonly run: (name: 'first' | 'second') => Promise<string>;
  /** The index of the image that is there, or -1. */
  readonly there: () => Promise<number>;
}

async function pair(): Promise<Pair> {
  const t = testService({ allow: ['222222222222'] });
  const repository = `owned-${++names}`;
  const images = [await makeImage({ seed: names * 2 }), await makeImage({ seed: names * 2 + 1 })] as const;
  await lab.push(images[0], registry, repository);
  await lab.push(images[1], ecr, repository);
  const to = address(otherEcr, repository);
  const from = [address(registry, repository), address(ecr, repository)] as const;
  const template = `${otherEcr.registryHost}/{repository}`;
  const first = rule({ name: 'first', from: [`${registry.registryHost}/${repository}`], to: [template] });
  const second = rule({ name: 'second', from: [`${ecr.registryHost}/${repository}`], to: [template] });
  await apply(t, first, second);
  const worker = t.worker(lab.session().backends);
  return {
    t,
    first,
    second,
    images,
    repository,
    from,
    to,
    run: async (name) => {
      const run = await t.enqueue({ ...mirrorJob(from[name === 'first' ? 0 : 1], to), rule: name });
      await worker.drain();
      return run;
    },
    there: async () => {
      const { digest } = await lab.view(otherEcr, repository).resolve('v1');
      return images.findIndex(({ root }) => root.descriptor.digest === digest);
    },
  };
}

describe('a destination that another rule wrote', () => {
  test('is not written, and the refusal names both rules, both sources and the remedy', async () => {
    const { t, run, from, to, there } = await pair();
    await expectEnded(t, await run('first'), { done: 1 });
    const refused = await run('second');
    await expectEnded(t, refused, { failed: 1 });
    const [job] = await Array.fromAsync(t.state.runs.jobs(refused, { state: 'failed' }));
    expect(job).toMatchObject({
      code: 'CONFLICT',
      attempts: 1,
      reason: `target: copy ${from[1]} to ${to} for rule "second": rule "first" writes it already, from ${from[0]}: change the destinations or the selection of one of the rules, or remove one`,
    });
    expect(await deadLettersOf(t)).toMatchObject([{ reason: `CONFLICT: ${job?.reason}` }]);
    expect(await there()).toBe(0);
    expect(await t.state.destinations.get(destinationKey(to))).toMatchObject({ rule: 'first', source: from[0] });
  });

  test('is named beside the others when nothing can be copied at all', async () => {
    const { t, run, to, repository } = await pair();
    await run('first');
    const free = address(otherEcr, `failed/${repository}`);
    const missing = address(ecr, repository, 'v9');
    const both = await t.enqueue({ ...mirrorJob(missing, to, free), rule: 'second' });
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, both, { failed: 1 });
    const [job] = await Array.fromAsync(t.state.runs.jobs(both, { state: 'failed' }));
    expect(job?.reason).toMatch(/^2 of 2 destinations failed: .*rule "first" writes it already/);
    expect(job?.reason).toContain(`${free}: source: `);
  });

  test('does not stop the other destinations of the job', async () => {
    const { t, run, from, to, images, repository } = await pair();
    await run('first');
    const free = address(otherEcr, `free/${repository}`);
    const both = await t.enqueue({ ...mirrorJob(from[1], to, free), rule: 'second' });
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, both, { failed: 1 });
    const [job] = await Array.fromAsync(t.state.runs.jobs(both, { state: 'failed' }));
    expect(job?.reason).toMatch(/^1 of 2 destinations failed: .*rule "first" writes it already/);
    const { digest } = await lab.view(otherEcr, `free/${repository}`).resolve('v1');
    expect(digest).toBe(images[1].root.descriptor.digest);
  });

  test('is also named when the copy to the other destinations fails as a whole', async () => {
    const { t, run, to, repository } = await pair();
    await run('first');
    const missing = address(ecr, repository, 'missing');
    const free = ['a', 'b'].map((name) => address(otherEcr, `${name}/${repository}`));
    const all = await t.enqueue({ ...mirrorJob(missing, to, ...free), rule: 'second' });
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, all, { failed: 1 });
    const [job] = await Array.fromAsync(t.state.runs.jobs(all, { state: 'failed' }));
    expect(job?.reason).toMatch(/^3 of 3 destinations failed: .*rule "first" writes it already/);
    expect(job?.reason).toContain(`; ${free.join(', ')}: source: `);
  });

  test.each<[string, (first: CopyRule) => CopyRule | undefined]>([
    ['is removed', () => undefined],
    ['has expired', (first) => ({ ...first, expiresAtMs: 1 })],
    ['reads another source', (first) => ({ ...first, from: [`${registry.registryHost}/other`] })],
    ['writes elsewhere', (first) => ({ ...first, to: [`${otherEcr.registryHost}/other/{repository}`] })],
    ['selects other tags', (first) => ({ ...first, tags: { ...first.tags, exclude: ['v1'] } })],
    ['makes archives', (first) => ({ ...first, kind: 'backup', to: ['s3://archives/{repository}/{tag}.tar'] })],
  ])('is taken over once that rule %s', async (_, change) => {
    const { t, run, first, to, there } = await pair();
    await run('first');
    const changed = change(first);
    if (changed === undefined) await remove(t, 'first');
    else await apply(t, changed);
    await expectEnded(t, await run('second'), { done: 1 });
    expect(await there()).toBe(1);
    expect(await t.state.destinations.get(destinationKey(to))).toMatchObject({ rule: 'second' });
    // the rule that owns it now keeps it
    await apply(t, first);
    await expectEnded(t, await run('first'), { failed: 1 });
    expect(await there()).toBe(1);
  });

  test('stays with that rule whatever else changes in it', async () => {
    const { t, run, first } = await pair();
    await run('first');
    await apply(t, {
      ...first,
      tags: { include: ['v*'], exclude: [], latest: { count: 1, by: 'push' }, maxAgeDays: 1, untagged: false },
      referrers: false,
    });
    await expectEnded(t, await run('second'), { failed: 1 });
  });

  test('is still written by hand, and belongs to no rule then', async () => {
    const { t, run, from, to } = await pair();
    await run('first');
    const byHand = await t.enqueue({ ...mirrorJob(from[1], to), rule: undefined });
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, byHand, { done: 1 });
    await expectEnded(t, await run('second'), { skipped: 1 });
    await expectEnded(t, await run('first'), { failed: 1 });
  });

  test('belongs to the first of two jobs that begin at once', async () => {
    const { t, run, from, to, there } = await pair();
    const gate = gated(lab.session().backends);
    const earlier = await t.enqueue({ ...mirrorJob(from[0], to), rule: 'first' });
    const working = t.worker(gate.backends).next();
    await gate.reached;
    const later = await t.enqueue({ ...mirrorJob(from[1], to), rule: 'second' });
    const waiting = await t.worker(lab.session().backends).next();
    expect(waiting?.outcome).toMatchObject({ type: 'again' });
    gate.open();
    await working;
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, earlier, { done: 1 });
    await expectEnded(t, later, { failed: 1 });
    expect(await there()).toBe(0);
    await expectEnded(t, await run('first'), { skipped: 1 });
  });
});

describe('a destination of two sources of one rule', () => {
  test('stays with the repository that it was copied from', async () => {
    const { t, first, run, from, to, there } = await pair();
    await apply(t, { ...first, from: [...first.from, `${ecr.registryHost}/*`] });
    await run('first');
    const refused = await t.enqueue({ ...mirrorJob(from[1], to), rule: 'first' });
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, refused, { failed: 1 });
    const [job] = await Array.fromAsync(t.state.runs.jobs(refused, { state: 'failed' }));
    expect(job?.reason).toBe(
      `target: copy ${from[1]} to ${to} for rule "first": the rule writes it from ${from[0]} already: leave one of these images out, or give them destinations that differ`,
    );
    expect(await there()).toBe(0);
  });

  test('moves from tag to tag of one repository', async () => {
    const { t, first, repository, from } = await pair();
    await lab.push(await makeImage({ seed: 7000 + names, tag: 'v2' }), registry, repository);
    const to = `docker://${otherEcr.registryHost}/${repository}:newest`;
    const tags = { include: [], exclude: [], latest: { count: 1, by: 'version' }, untagged: false } as const;
    await apply(t, { ...first, to: [to.slice('docker://'.length)], tags });
    for (const source of [from[0], address(registry, repository, 'v2')]) {
      const run = await t.enqueue({ ...mirrorJob(source, to), rule: 'first' });
      await t.worker(lab.session().backends).drain();
      await expectEnded(t, run, { done: 1 });
    }
  });
});

describe('a planner', () => {
  test('sends no job for a destination of another rule; the run has failed, with the reason', async () => {
    const { t, run, second, repository } = await pair();
    await run('first');
    const free = `${otherEcr.registryHost}/planned/{repository}`;
    await apply(t, { ...second, to: [...second.to, free] });
    const worker = t.worker(lab.session().backends);
    await runPass(worker.context.service, worker.context.backends, { clock: t.clock });
    await worker.drain();
    const [latest] = await t.state.runs.list({ rule: 'second', limit: 1 });
    expect(latest?.jobs).toMatchObject({ done: 1, failed: 1 });
    const [job] = await Array.fromAsync(t.state.runs.jobs(latest?.id ?? '', { state: 'failed' }));
    expect(job).toMatchObject({ code: 'CONFLICT', reason: expect.stringContaining('rule "first" writes it already') });
    expect(await deadLettersOf(t)).toEqual([]);
    await lab.view(otherEcr, `planned/${repository}`).resolve('v1');
  });
});

test('a rule may write what another rule wrote from the same image with the same choices', async () => {
  const { t, run, from, to, there } = await pair();
  await expectEnded(t, await run('first'), { done: 1 });
  const other = await t.enqueue({ ...mirrorJob(from[0], to), platforms: ['linux/amd64'], rule: 'second' });
  await t.worker(lab.session().backends).drain();
  await expectEnded(t, other, { failed: 1 });
  const same = await t.enqueue({ ...mirrorJob(from[0], to), rule: 'second' });
  await t.worker(lab.session().backends).drain();
  await expectEnded(t, same, { skipped: 1 });
  expect(await there()).toBe(0);
});

describe('a sync', () => {
  test('writes two tags of one image to one destination by digest', async () => {
    await lab.push(await makeImage({ seed: 91 }), registry, 'by-digest/app');
    const from = `docker://${registry.registryHost}/by-digest/app`;
    await lab.session().copy(`${from}:v1`, `${from}:latest`);
    const config = parseConfig(`version: 1
rules:
  - name: by-digest
    mirror: { from: '${registry.registryHost}/by-digest/app', to: '${otherEcr.registryHost}/{repository}:{digest}' }
    schedule: '0 * * * *'
`);
    const { backends, options } = lab.session();
    const { items } = await sync({ config }, backends, { ...options, clock: systemClock });
    expect(items.map(({ outcome }) => outcome)).toEqual(['copied', 'unchanged']);
  });

  test.each([false, true])(
    'writes for the first of two rules, and reports the other as failed (dry run: %s)',
    async (dryRun) => {
      const { first, second, from, to, there } = await pair();
      const { backends, options: given, events } = lab.session();
      const options = { ...given, clock: systemClock };
      const config = { version: 1, registries: {}, allow: [], rules: [first, second] } as const;
      const { items, faults } = await sync({ config, dryRun }, backends, options);
      expect(items).toMatchObject([
        { from: from[0], to, outcome: dryRun ? 'planned' : 'copied' },
        { from: from[1], to, outcome: 'failed', failure: { code: 'CONFLICT' } },
      ]);
      expect(faults).toEqual([]);
      const message = items[1]?.failure?.message;
      expect(message).toMatch(/for rule "second": rule "first" writes it already/);
      expect(events).toContainEqual({ type: 'warning', rule: 'second', message: `target: ${message}` });
      if (!dryRun) expect(await there()).toBe(0);
      // the second rule may write when it runs alone: nothing is remembered
      const alone = await sync({ config, dryRun, rules: ['second'] }, backends, options);
      expect(alone.items).toMatchObject([{ outcome: dryRun ? 'planned' : 'copied' }]);
    },
  );
});
