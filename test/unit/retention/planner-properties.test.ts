// Properties that hold for every registry and every policy.
import { matchesGlob } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { comparePlan } from '../../../worker/retention/compare-plan.ts';
import type { Inventory, Item } from '../../../worker/retention/inventory.ts';
import { formatPlan, readPlan } from '../../../worker/retention/plan-file.ts';
import type { PlannedItem, PlanOptions, PrunePlan } from '../../../worker/retention/plan.ts';
import type { RepositoryPolicy } from '../../../worker/retention/policy.ts';
import { planPrune } from './plan-prune.ts';
import { archives, DAY, images, NOW, policies, reordered } from './registries.ts';

const OPTIONS: PlanOptions = { nowMs: NOW, places: ['registry.example/team/*'], maxDeletes: Infinity };
const RUNS = { numRuns: 1000 };

/** Tags that are about another item, implemented again: a test that asked the planner would trust it. */
const ABOUT = /^sha256-([0-9a-f]{64})(?:\.(?:sig|att|sbom))?$/;

const isNamed = (item: Item): boolean => item.tags.some((tag) => !ABOUT.test(tag));

/** The existing items that `item` belongs to. */
function above(item: Item, items: readonly Item[]): readonly Item[] {
  const hexes = item.tags.flatMap((tag) => ABOUT.exec(tag)?.[1] ?? []);
  const abouts = new Set(hexes.map((hex) => `sha256:${hex}`));
  return items.filter(
    ({ id, children }) =>
      id !== item.id && (children.some((child) => child === item.id) || item.subject === id || abouts.has(id)),
  );
}

/** The policy, implemented again without any counting. */
function expectMayGo(item: Item, tags: readonly string[], policy: RepositoryPolicy): void {
  const matches = (patterns: readonly string[] = [], tag: string): boolean =>
    patterns.some((pattern) => (pattern.startsWith('/') ? /^v\d/.test(tag) : matchesGlob(tag, pattern)));
  for (const tag of tags) {
    expect(matches(policy.keepTags, tag), `keepTags ${tag}`).toBe(false);
    if (policy.deleteTags !== undefined) expect(matches(policy.deleteTags, tag), `deleteTags ${tag}`).toBe(true);
  }
  if (tags.length === 0) return;
  const { keepLast, keepDays, keepDaily, keepWeekly, keepMonthly, keepYearly, keepSemver, deleteTags } = policy;
  const times = [keepLast, keepDays, policy.expireAfterDays, keepDaily, keepWeekly, keepMonthly, keepYearly];
  if (times.some((count) => count !== undefined)) expect(item.pushedAtMs).toBeDefined();
  const expired = policy.expireAfterDays !== undefined && (item.pushedAtMs ?? NOW) < NOW - policy.expireAfterDays * DAY;
  if (keepDays !== undefined && !expired) expect(item.pushedAtMs).toBeLessThan(NOW - keepDays * DAY);
  if (policy.notPulledForDays !== undefined) expect(item.pulledAtMs).toBeLessThan(NOW - policy.notPulledForDays * DAY);
  expect([...times, keepSemver, deleteTags, policy.notPulledForDays].some((rule) => rule !== undefined)).toBe(true);
}

function plannedItems(plan: PrunePlan): readonly PlannedItem[] {
  return plan.repositories.flatMap(({ items }) => items);
}

function idsOf(plan: PrunePlan, action: PlannedItem['action']): ReadonlySet<string> {
  return new Set(plannedItems(plan).flatMap((item) => (item.action === action ? [item.id] : [])));
}

/** The inventory after exactly the actions of the plan. */
function applied(inventory: Inventory, plan: PrunePlan): Inventory {
  const byId = new Map(plannedItems(plan).map((item) => [item.id, item]));
  const items = inventory.items.flatMap((item) => {
    const planned = byId.get(item.id);
    if (planned?.action === 'delete') return [];
    return [{ ...item, tags: item.tags.filter((tag) => planned?.untag?.includes(tag) !== true) }];
  });
  return { ...inventory, items };
}

function expectNothingLost(inventory: Inventory, plan: PrunePlan): void {
  const gone = idsOf(plan, 'delete');
  for (const item of inventory.items) {
    const owners = above(item, inventory.items);
    const living = owners.filter(({ id }) => !gone.has(id));
    if (gone.has(item.id)) {
      expect(living, 'something that stays lost a child or what refers to it').toEqual([]);
      expect(item.held).toBeUndefined();
    } else if (owners.length > 0 && !isNamed(item)) {
      expect(living.length, 'something stays without the image that it belongs to').toBeGreaterThan(0);
    }
  }
  for (const { action, tags, untag = [] } of plannedItems(plan)) {
    if (action !== 'untag') continue;
    expect(tags).toEqual(expect.arrayContaining([...untag]));
    expect(
      tags.some((tag) => !ABOUT.test(tag) && !untag.includes(tag)),
      'an image lost its last tag',
    ).toBe(true);
  }
}

function isDependency(inventory: Inventory, plan: PrunePlan): void {
  const order = plannedItems(plan).flatMap(({ id, action }) => (action === 'delete' ? [id] : []));
  const byId = new Map(inventory.items.map((item) => [item.id, item]));
  for (const [index, id] of order.entries()) {
    const item = byId.get(id);
    const owners = item === undefined ? [] : above(item, inventory.items);
    for (const owner of owners) expect(order.indexOf(owner.id), 'deleted before its index').toBeLessThan(index);
  }
}

test('keeps every child and referrer of what stays, every held item, and the last tag of what stays', () => {
  fc.assert(
    fc.property(images, policies, fc.boolean(), (inventory, chosen, allowEmpty) => {
      const plan = planPrune([inventory], chosen, { ...OPTIONS, allowEmpty });
      expectNothingLost(inventory, plan);
      isDependency(inventory, plan);
      expect(
        plannedItems(plan)
          .map(({ id }) => id)
          .sort(),
      ).toEqual(inventory.items.map(({ id }) => id).sort());
      expect(plannedItems(plan).every(({ reason }) => reason !== '')).toBe(true);
      const changes = idsOf(plan, 'delete').size + idsOf(plan, 'untag').size;
      if (inventory.incomplete !== undefined) expect(changes).toBe(0);
      const named = inventory.items.filter(isNamed);
      const rest = applied(inventory, plan).items;
      if (!allowEmpty) expect((named.length > 0 ? rest.filter(isNamed) : rest).length).toBeGreaterThan(0);
    }),
    RUNS,
  );
});

test('deletes no image that its policy keeps, and none whose age is needed and unknown', () => {
  fc.assert(
    fc.property(fc.oneof(images, archives), policies, (inventory, chosen) => {
      const plan = planPrune([inventory], chosen, { ...OPTIONS, allowEmpty: true });
      const byId = new Map(inventory.items.map((item) => [item.id, item]));
      for (const { id, action, untag } of plannedItems(plan)) {
        const item = byId.get(id);
        if (item === undefined || action === 'keep') continue;
        const ownTags = item.image === undefined ? item.tags : [item.image.slice(item.image.lastIndexOf(':') + 1)];
        for (const policy of chosen) expectMayGo(item, untag ?? ownTags.filter((tag) => !ABOUT.test(tag)), policy);
      }
    }),
    RUNS,
  );
});

test('makes the same plan whatever the order in which a registry lists', () => {
  fc.assert(
    fc.property(images, archives, policies, fc.nat(2), (one, other, chosen, key) => {
      const plan = formatPlan(planPrune([one, other], chosen, OPTIONS));
      expect(formatPlan(planPrune([reordered(other, key), reordered(one, key)], chosen, OPTIONS))).toBe(plan);
    }),
    RUNS,
  );
});

test('has nothing left to do once its plan was carried out', () => {
  fc.assert(
    fc.property(fc.oneof(images, archives), policies, fc.boolean(), (inventory, chosen, allowEmpty) => {
      const options = { ...OPTIONS, allowEmpty };
      const after = applied(inventory, planPrune([inventory], chosen, options));
      const again = planPrune([after], chosen, options);
      expect(plannedItems(again).filter(({ action }) => action !== 'keep')).toEqual([]);
    }),
    RUNS,
  );
});

test('deletes at most maxDeletes, never a part of a group, and in several runs what one run would', () => {
  fc.assert(
    fc.property(images, policies, fc.integer({ min: 1, max: 6 }), (inventory, chosen, maxDeletes) => {
      const end = applied(inventory, planPrune([inventory], chosen, { ...OPTIONS, allowEmpty: true }));
      let now = inventory;
      for (;;) {
        const plan = planPrune([now], chosen, { ...OPTIONS, allowEmpty: true, maxDeletes });
        const changes = plannedItems(plan).filter(({ action }) => action !== 'keep');
        expect(changes.length).toBeLessThanOrEqual(maxDeletes);
        expectNothingLost(now, plan);
        now = applied(now, plan);
        if (changes.length > 0) continue;
        const tooLarge = plannedItems(plan).some(({ reason }) => /more than maxDeletes/.test(reason));
        if (!tooLarge) expect(now).toEqual(end);
        return;
      }
    }),
    RUNS,
  );
});

test('carries out a reviewed plan exactly, and nothing after something changed', () => {
  const moved = (inventory: Inventory, chosen: readonly RepositoryPolicy[], plan: PrunePlan): PrunePlan => {
    const fresh = planPrune([inventory], chosen, { ...OPTIONS, only: plan });
    comparePlan(plan, fresh);
    return fresh;
  };
  fc.assert(
    fc.property(images, policies, fc.integer({ min: 1, max: 20 }), (inventory, chosen, maxDeletes) => {
      const plan = readPlan(formatPlan(planPrune([inventory], chosen, { ...OPTIONS, maxDeletes })));
      const fresh = moved(inventory, chosen, plan);
      expect(idsOf(fresh, 'delete')).toEqual(idsOf(plan, 'delete'));
      expect(idsOf(fresh, 'untag')).toEqual(idsOf(plan, 'untag'));
      const order = [...idsOf(plan, 'delete')];
      const done = new Set(order.slice(0, maxDeletes % (order.length + 1)));
      const stopped = { ...inventory, items: inventory.items.filter(({ id }) => !done.has(id)) };
      const rest = order.filter((id) => !done.has(id));
      expect([...idsOf(moved(stopped, chosen, plan), 'delete')].sort(), 'a run that was stopped goes on').toEqual(
        rest.sort(),
      );
      const [victim] = order;
      if (victim === undefined) return;
      const retagged = inventory.items.map((item) =>
        item.id === victim ? { ...item, tags: [...item.tags, 'new'] } : item,
      );
      expect(() => moved({ ...inventory, items: retagged }, chosen, plan)).toThrow(/has moved since the plan was made/);
      const index = { id: 'sha256:f', tags: ['new'], children: inventory.items.flatMap(({ digest = [] }) => digest) };
      expect(() => moved({ ...inventory, items: [...inventory.items, index] }, chosen, plan)).toThrow(/has moved/);
    }),
    RUNS,
  );
});

test('keeps the newest good backup of every image that deleteTags does not name', () => {
  fc.assert(
    fc.property(archives, policies, fc.boolean(), (inventory, chosen, allowEmpty) => {
      const plan = planPrune([inventory], chosen, { ...OPTIONS, allowEmpty });
      const gone = idsOf(plan, 'delete');
      const backups = inventory.items.filter(({ id, bad }) => id.endsWith('.tar') && bad === undefined);
      const mayGo = new Set(chosen[0]?.deleteTags === undefined ? [] : ['v1.0', 'pr-1', 'main']);
      for (const image of new Set(backups.map((one) => one.image ?? one.id))) {
        if (mayGo.has(image.slice(image.lastIndexOf(':') + 1))) continue;
        const own = backups.filter((one) => (one.image ?? one.id) === image);
        const last = Math.max(...own.map(({ pushedAtMs = 0 }) => pushedAtMs));
        const newest = own.filter(({ pushedAtMs = 0 }) => pushedAtMs === last);
        expect(
          newest.some(({ id }) => !gone.has(id)),
          `the newest backup of ${image}`,
        ).toBe(true);
      }
      const rest = inventory.items.filter(({ id }) => !gone.has(id));
      if (gone.has('team/app/repository.json')) expect(rest).toEqual([]);
    }),
    RUNS,
  );
});
