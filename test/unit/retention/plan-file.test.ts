import { describe, expect, test } from 'vitest';
import { comparePlan } from '../../../worker/retention/compare-plan.ts';
import type { Inventory } from '../../../worker/retention/inventory.ts';
import { formatPlan, readPlan } from '../../../worker/retention/plan-file.ts';
import type { PlanOptions, PrunePlan } from '../../../worker/retention/plan.ts';
import { policyFaults, type RepositoryPolicy } from '../../../worker/retention/policy.ts';
import { planPrune } from './plan-prune.ts';
import { DAY, digest, NOW } from './registries.ts';

const POLICIES: readonly RepositoryPolicy[] = [{ repositories: ['*'], keepDays: 30 }];
const OPTIONS: PlanOptions = { nowMs: NOW, places: ['registry.example/app'] };
const [old, older, young] = [1, 2, 3].map((number) => ({
  id: digest(number),
  digest: digest(number),
  tags: [`v${number}`],
  children: [],
  pushedAtMs: NOW - (number === 3 ? 1 : 40 + number) * DAY,
}));
const INVENTORY = {
  place: 'registry.example/app',
  repository: 'app',
  kind: 'images',
  untags: true,
  items: [old, older, young].filter((one) => one !== undefined),
} satisfies Inventory;
const PLAN = planPrune([INVENTORY], POLICIES, OPTIONS);
const TEXT = formatPlan(PLAN);

/** The plan at the time when the reviewed one is about to be carried out. */
function again(inventory: Inventory, policies = POLICIES, options: Partial<PlanOptions> = {}): PrunePlan {
  return planPrune([inventory], policies, { ...OPTIONS, only: PLAN, maxDeletes: Infinity, ...options });
}

describe('the file of a plan', () => {
  test('is read as it was written', () => {
    expect(PLAN.totals).toMatchObject({ delete: 2, keep: 1 });
    expect(readPlan(TEXT)).toEqual(PLAN);
  });

  test.each([
    ['one reason is changed', TEXT.replace('older than 30 days', 'because'), /was changed after it was written/],
    ['one item is removed', withoutFirstItem(), /was changed after it was written/],
    ['the checksum is missing', TEXT.replace('checksum', 'check'), /was changed after it was written/],
    ['it is of another format', TEXT.replace('"format": 1', '"format": 2'), /this version reads format 1/],
    ['it is a rules file', 'version: 1', /it is not JSON/],
    ['it is another JSON file', '{"rules": []}', /it is not a plan: write one with --plan-out/],
    ['it is cut', TEXT.slice(0, -20), /it is not JSON/],
  ])('is refused when %s', (_, text, message) => {
    expect(() => readPlan(text)).toThrow(
      expect.objectContaining({ code: 'INVALID', message: expect.stringMatching(message) }),
    );
  });

  function withoutFirstItem(): string {
    const { repositories, ...plan } = JSON.parse(TEXT);
    return JSON.stringify({ ...plan, repositories: [{ ...repositories[0], items: repositories[0].items.slice(1) }] });
  }
});

describe('a reviewed plan', () => {
  test('is carried out later, and resumes after it was stopped', () => {
    comparePlan(PLAN, again(INVENTORY, POLICIES, { nowMs: NOW + DAY }));
    comparePlan(PLAN, again({ ...INVENTORY, items: INVENTORY.items.slice(1) }));
  });

  const changed = (item: number, more: object): Inventory => ({
    ...INVENTORY,
    items: INVENTORY.items.map((one, index) => (index === item ? { ...one, ...more } : one)),
  });
  test.each<[string, PrunePlan, string, RegExp]>([
    ['an image got a tag', again(changed(1, { tags: ['v2', 'live'] })), 'CONFLICT', /v2 .* has the tags live, v2 now/],
    ['a tag went to another image', again(changed(0, { tags: [] })), 'CONFLICT', /v1 .* has no tag now/],
    ['an image is being copied', again(changed(1, { held: 'a copy is being written' })), 'CONFLICT', /a copy is being/],
    ['a new index has it', again(changed(2, { children: [digest(2)] })), 'CONFLICT', /stays now: child of v3/],
    ['the list broke off', again({ ...INVENTORY, incomplete: 'HTTP 500' }), 'CONFLICT', /not complete: HTTP 500/],
    [
      'it is of another registry',
      again({ ...INVENTORY, place: 'other.example/app' }),
      'INVALID',
      /which is not one of/,
    ],
    ['its policies differ', again(INVENTORY, [{ repositories: ['*'], keepDays: 9 }]), 'INVALID', /other policies/],
  ])('is refused when %s', (_, fresh, code, message) => {
    expect(() => comparePlan(PLAN, fresh)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});

test('reports all faults of a list of policies, each with its place', () => {
  const faults = policyFaults([
    { repositories: ['a', ''], keepLast: 0, keepDays: 1.5, keepTags: ['v*', '/(/'] },
    { repositories: [], deleteTags: ['*'], untaggedAfterDays: 3 },
    { repositories: ['*'], deleteTags: [], keepSemver: 'new' },
    { repositories: ['prod/*'], keepSemver: ' ' },
    { repositories: ['b{'], deleteTags: ['*'], keepLast: 3 },
  ]);
  expect(faults.map(({ path, message }) => `${path.join('.')}: ${message}`)).toEqual([
    '0.repositories.1: expected a repository, or a pattern such as "team/*"',
    '0.keepLast: expected a whole number from 1 to 1000000',
    '0.keepDays: expected a whole number from 1 to 1000000',
    expect.stringMatching(/^0\.keepTags\.1: "\/\(\/" is not a pattern of tags: /),
    '1.repositories: expected a repository, or a pattern such as "team/*"',
    '1.deleteTags: * matches every tag and no rule keeps one: add keepLast, keepDays or keepTags',
    expect.stringMatching(/^2\.keepSemver: "new" is not a range of versions/),
    '2.deleteTags: it is empty: leave it out, or name the tags that may go',
    expect.stringMatching(/^3: it is never used/),
    '3.keepSemver: it is empty: leave it out, or name a range such as ">=2"',
    expect.stringMatching(/^4\.repositories\.0: "b\{" .* a brace is not closed$/),
    expect.stringMatching(/^4: it is never used/),
  ]);
});
