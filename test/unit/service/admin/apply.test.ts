import { expect, test } from 'vitest';
import { apply } from '../../../../worker/service/admin/apply.ts';
import { parseConfig } from '../../../../worker/rules/config.ts';
import type { Config } from '../../../../worker/rules/rule.ts';
import { memoryState } from '../../../../worker/state/memory.ts';
import type { StateStore } from '../../../../worker/state/state.ts';
import { manualClock } from '../../../support/clock.ts';

function config(...names: readonly string[]): Config {
  const rules = names.map(
    (name) => `
  - name: ${name}
    mirror: { from: a.example/app, to: 'b.example/copies/{repository}' }
    schedule: '0 * * * *'`,
  );
  return parseConfig(`version: 1\nrules:${rules.length === 0 ? ' []' : rules.join('')}\n`);
}

const EVERY_KIND = parseConfig(`
version: 1
rules:
  - name: mirrored
    mirror: { from: a.example/app, to: 'b.example/copies/{repository}' }
    schedule: '0 * * * *'
  - name: documents
    publish: { from: 's3://documents/', to: b.example/documents }
    schedule: '0 * * * *'
  - name: clean
    prune: { at: 'b.example/*', untaggedAfterDays: 1 }
    schedule: '0 * * * *'
`);

async function named(state: StateStore): Promise<readonly string[]> {
  return (await state.rules.list()).map(({ name }) => name);
}

test('refuses one of two files that are applied at once, and the rules are those of a single file', async () => {
  const state = memoryState(manualClock());
  // each is valid by itself; both together would write the same tags
  const first = await apply(config('first'), state, {});
  const second = await apply(config('second'), state, {});
  await first.execute();
  await expect(second.execute()).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await named(state)).toEqual(['first']);
  await (await apply(config('second'), state, {})).execute();
  expect(await named(state)).toEqual(['second']);
});

test('refuses to apply a file before anything is changed, while another is applied', async () => {
  const state = memoryState(manualClock());
  const plan = await apply(config('mine'), state, {});
  {
    await using other = await state.lock('rules', 60);
    expect(other).toBeDefined();
    await expect(plan.execute()).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await named(state)).toEqual([]);
  }
  await plan.execute();
  expect(await named(state)).toEqual(['mine']);
});

test('stores rules of every kind', async () => {
  const state = memoryState(manualClock());
  await (await apply(EVERY_KIND, state, {})).execute();
  expect(await named(state)).toEqual(['clean', 'documents', 'mirrored']);
  await (await apply(config('mirrored'), state, {})).execute();
  expect(await named(state)).toEqual(['mirrored']);
});

test('does not restore a rule that was deleted meanwhile', async () => {
  const state = memoryState(manualClock());
  await (await apply(config('old'), state, {})).execute();
  const plan = await apply(config(), state, {});
  await state.rules.remove('old', 1);
  await expect(plan.execute()).rejects.toMatchObject({ code: 'CONFLICT' });
});
