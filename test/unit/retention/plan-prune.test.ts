// The policies by example: a repository, a policy, and the fate of each item with its reason.
import { describe, expect, test } from 'vitest';
import { digestOf, shortDigest, type Digest } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { CALENDAR } from '../../../worker/retention/calendar.ts';
import type { Inventory, Item } from '../../../worker/retention/inventory.ts';
import type { PlanOptions, PrunePlan } from '../../../worker/retention/plan.ts';
import type { Policy } from '../../../worker/retention/policy.ts';
import { planPrune } from './plan-prune.ts';
import { DAY, NOW } from './registries.ts';

interface Shape {
  /** Separated by spaces. Default: the name of the item. */
  readonly tags?: string;
  /** In days; null: unknown. */
  readonly age?: number | null;
  readonly pulled?: number;
  readonly children?: string;
  readonly subject?: string;
  readonly held?: string;
  readonly bad?: string;
  readonly image?: string;
  readonly mediaType?: string;
}

const OPTIONS: PlanOptions = { nowMs: NOW, places: ['registry.example/app'] };

function id(name: string): Digest {
  return digestOf(Buffer.from(name));
}

function words(text = ''): readonly string[] {
  return text.split(' ').filter((word) => word !== '');
}

/** The cosign tag of the item called `name`. */
function cosign(name: string): string {
  return `${id(name).replace(':', '-')}.sig`;
}

function inventory(shapes: Readonly<Record<string, Shape>>, more: Partial<Inventory> = {}): Inventory {
  const kind = more.kind ?? 'images';
  const items = Object.entries(shapes).map(([name, shape]): Item => {
    const { age = 100, pulled, subject, held, bad, image, mediaType } = shape;
    return {
      id: kind === 'images' ? id(name) : name,
      digest: kind === 'images' ? id(name) : undefined,
      tags: kind === 'images' ? words(shape.tags ?? name) : [],
      pushedAtMs: age === null ? undefined : NOW - age * DAY,
      pulledAtMs: pulled === undefined ? undefined : NOW - pulled * DAY,
      children: words(shape.children).map(id),
      subject: subject === undefined ? undefined : id(subject),
      held,
      bad,
      image,
      mediaType,
    };
  });
  return { place: 'registry.example/app', repository: 'app', kind, untags: true, items, ...more };
}

/** `action name: reason` of each item, in the order of the plan. */
function read(plan: PrunePlan, shapes: Readonly<Record<string, Shape>>): readonly string[] {
  const names = Object.keys(shapes);
  const named = (text: string): string => {
    return names.reduce((one, name) => one.replaceAll(id(name), name).replaceAll(shortDigest(id(name)), name), text);
  };
  return plan.repositories.flatMap(({ items }) =>
    items.map(({ id: item, action, reason, untag = [] }) => named(`${[action, item, ...untag].join(' ')}: ${reason}`)),
  );
}

function planned(
  policy: Policy,
  shapes: Readonly<Record<string, Shape>>,
  more: Partial<Inventory> = {},
  options: Partial<PlanOptions> = {},
): readonly string[] {
  const policies = [{ repositories: ['app'], ...policy }];
  return read(planPrune([inventory(shapes, more)], policies, { ...OPTIONS, ...options }), shapes);
}

describe('rules about time', () => {
  const five = { a: { age: 0.05 }, b: { age: 0.9 }, c: { age: 1.5 }, d: { age: 40 }, e: { age: null } };

  test('keepLast keeps the newest images, and those of unknown age', () => {
    expect(planned({ keepLast: 2 }, five)).toEqual([
      'delete d: not in keepLast 2',
      'delete c: not in keepLast 2',
      'keep a: keepLast 2',
      'keep b: keepLast 2',
      'keep e: age not known',
    ]);
  });

  test('expireAfterDays deletes what is older of what keepLast keeps: the last five, and none after seven days', () => {
    const shapes = { a: { age: 1 }, b: { age: 6 }, c: { age: 8 }, d: { age: 40 } };
    expect(planned({ keepLast: 3, expireAfterDays: 7 }, shapes)).toEqual([
      'delete d: older than 7 days',
      'delete c: older than 7 days',
      'keep a: keepLast 3',
      'keep b: keepLast 3',
    ]);
    expect(planned({ keepLast: 1, expireAfterDays: 7, keepTags: ['d'] }, shapes)).toEqual([
      'delete c: older than 7 days',
      'delete b: not in keepLast 1',
      'keep a: keepLast 1',
      'keep d: keepTags d',
    ]);
    expect(planned({ expireAfterDays: 7 }, shapes).slice(2)).toEqual([
      'keep a: expireAfterDays 7',
      'keep b: expireAfterDays 7',
    ]);
  });

  test('keepLast counts an image with two tags once, and no children, referrers or signatures', () => {
    const shapes = {
      sig: { tags: cosign('new'), age: 1 },
      new: { tags: 'v3 latest', age: 2, children: 'arm amd' },
      arm: { tags: '', age: 3 },
      amd: { tags: 'v3-amd', age: 3 },
      sbom: { tags: '', age: 3, subject: 'arm' },
      old: { tags: 'v2', age: 4 },
      older: { tags: 'v1', age: 5 },
    };
    expect(planned({ keepLast: 2 }, shapes)).toEqual([
      'delete older: not in keepLast 2',
      'keep sig: signature of latest',
      'keep new: keepLast 2',
      'keep amd: child of latest',
      'keep sbom: referrer of arm',
      'keep arm: child of latest',
      'keep old: keepLast 2',
    ]);
  });

  test('keepDaily, keepWeekly, keepMonthly and keepYearly keep the newest of each period that has one', () => {
    // NOW is Tuesday, 2026-12-01 02:00 UTC
    const shapes = {
      'dec-1': { age: 0.01 },
      'dec-1-first': { age: 0.08 },
      'nov-30': { age: 0.1 },
      'nov-29': { age: 2 },
      'nov-15': { age: 16 },
      'oct-20': { age: 42 },
      'jan-1': { age: 334 },
      'dec-28-2025': { age: 338 },
    };
    expect(planned({ keepDaily: 3, keepWeekly: 2, keepMonthly: 2, keepYearly: 2 }, shapes)).toEqual([
      'delete jan-1: not in keepDaily 3, not in keepWeekly 2, not in keepMonthly 2, not in keepYearly 2',
      'delete oct-20: not in keepDaily 3, not in keepWeekly 2, not in keepMonthly 2, not in keepYearly 2',
      'delete nov-15: not in keepDaily 3, not in keepWeekly 2, not in keepMonthly 2, not in keepYearly 2',
      'delete dec-1-first: not in keepDaily 3, not in keepWeekly 2, not in keepMonthly 2, not in keepYearly 2',
      'keep dec-1: keepDaily 3: newest of 2026-12-01, keepWeekly 2: newest of 2026-W49, keepMonthly 2: newest of 2026-12, keepYearly 2: newest of 2026',
      'keep nov-30: keepDaily 3: newest of 2026-11-30, keepMonthly 2: newest of 2026-11',
      'keep nov-29: keepDaily 3: newest of 2026-11-29, keepWeekly 2: newest of 2026-W48',
      'keep dec-28-2025: keepYearly 2: newest of 2025',
    ]);
  });

  test.each([
    ['2026-12-31', '2026-W53'],
    ['2027-01-03', '2026-W53'],
    ['2027-01-04', '2027-W01'],
    ['2024-12-30', '2025-W01'],
  ])('puts %s into the week %s', (day, week) => {
    expect(CALENDAR.keepWeekly(Date.parse(`${day}T23:59:59Z`))).toBe(week);
  });

  test('notPulledForDays looks at the children too, and keeps images whose pulls were never recorded', () => {
    const shapes = {
      used: { pulled: 200, children: 'arm' },
      arm: { tags: '', pulled: 3 },
      unused: { pulled: 91 },
      never: {},
    };
    expect(planned({ notPulledForDays: 90 }, shapes).toSorted()).toEqual([
      'delete unused: not pulled for 90 days',
      'keep arm: child of used',
      'keep never: last pull not known',
      'keep used: pulled within 90 days',
    ]);
  });
});

describe('rules about tags', () => {
  test('only deleteTags may be deleted, keepTags and keepSemver stay, keepDays keeps the image', () => {
    const shapes = {
      'pr-1': {},
      'pr-2': { age: 3 },
      'pr-prod': {},
      'pr-1.5': { tags: '1.5' },
      main: {},
      both: { tags: 'pr-3 v1.0' },
    };
    const policy = { deleteTags: ['pr-*', '/^1\\./'], keepTags: ['*-prod'], keepSemver: '>=1.5', keepDays: 14 };
    const expected = [
      'delete pr-1: deleteTags pr-*, older than 14 days',
      'untag both pr-3: deleteTags pr-*, older than 14 days',
      'keep pr-2: keepDays 14',
      'keep main: not in deleteTags',
      'keep pr-1.5: keepSemver >=1.5',
      'keep pr-prod: keepTags *-prod',
    ];
    expect(planned(policy, shapes).toSorted()).toEqual(expected.toSorted());
    expect(planned(policy, shapes, { untags: false })).toContain('keep both: the tag v1.0 stays: not in deleteTags');
  });

  test('a policy that only keeps deletes no image with a tag; untagged images are deleted by age', () => {
    const shapes = { v1: {}, old: { tags: '', children: 'arm' }, arm: { tags: '' }, new: { tags: '', age: 6 } };
    expect(planned({ keepTags: ['v*'], untaggedAfterDays: 7 }, shapes)).toEqual([
      'delete old: untagged, older than 7 days',
      'delete arm: child of old',
      'keep new: untagged, pushed within 7 days',
      'keep v1: keepTags v*',
    ]);
  });
});

describe('the parts of an image', () => {
  test('are deleted with it, index first; a child of another index, or with its own tag, stays', () => {
    const shapes = {
      v1: { age: 50, children: 'arm shared tagged' },
      v2: { age: 2, children: 'shared' },
      arm: { tags: '', age: 60 },
      shared: { tags: '', age: 60 },
      tagged: { tags: 'prod-arm', age: 60 },
      sbom: { tags: '', age: 1, subject: 'arm' },
      sig: { tags: cosign('v1'), age: 1 },
    };
    expect(planned({ keepDays: 30, keepTags: ['prod-*'] }, shapes).toSorted()).toEqual([
      'delete arm: child of v1',
      'delete sbom: referrer of arm',
      'delete sig: signature of v1',
      'delete v1: older than 30 days',
      'keep shared: child of v2',
      'keep tagged: keepTags prod-*',
      'keep v2: keepDays 30',
    ]);
  });

  test('keep it where they are held', () => {
    const shapes = {
      v1: { children: 'arm' },
      arm: { tags: '', held: 'a copy is being written' },
      v2: { held: 'locked until 2027-01-01' },
      v3: { age: 1 },
    };
    expect(planned({ keepDays: 30 }, shapes).toSorted()).toEqual([
      'keep arm: child of v1',
      'keep v1: arm goes with it: a copy is being written',
      'keep v2: locked until 2027-01-01',
      'keep v3: keepDays 30',
    ]);
  });

  test('may be elsewhere: a signature without its image stays', () => {
    expect(planned({ keepDays: 30, untaggedAfterDays: 1 }, { sig: { tags: cosign('x') }, v1: { age: 1 } })).toEqual([
      'keep v1: keepDays 30',
      `keep sig: about an image that is not here: ${cosign('x')}`,
    ]);
  });

  test('are not an image whose tag looks like that of a list of referrers', () => {
    const tags = id('v1').replace(':', '-');
    const shapes = { v1: {}, v2: { age: 1 } };
    const going = (mediaType: string): readonly string[] =>
      planned({ keepDays: 30 }, { ...shapes, list: { tags, mediaType } }).filter((line) => line.startsWith('delete'));
    expect(going(MEDIA_TYPE.ociIndex)).toEqual([
      'delete v1: older than 30 days',
      'delete list: list of referrers of v1',
    ]);
    expect(going(MEDIA_TYPE.ociManifest)).toEqual(['delete v1: older than 30 days']);
  });
});

describe('archives', () => {
  const image = 'registry.example/app:v1';
  const shapes = {
    'app/v1-3.tar': { image, age: 1, bad: 'it cannot be read' },
    'app/v1-2.tar': { image, age: 50 },
    'app/v1-1.tar': { image, age: 60 },
    'app/pr-1.tar': { image: 'registry.example/app:pr-1', age: 90 },
    'app/repository.json': { age: 400 },
  };

  test('keep the newest good backup of an image, whatever the policy', () => {
    expect(planned({ keepDays: 30 }, shapes, { kind: 'archives' }).toSorted()).toEqual([
      'delete app/v1-1.tar: older than 30 days',
      'keep app/pr-1.tar: newest good backup of registry.example/app:pr-1',
      'keep app/repository.json: settings of app/pr-1.tar',
      'keep app/v1-2.tar: newest good backup of registry.example/app:v1',
      'keep app/v1-3.tar: it cannot be read',
    ]);
  });

  test('are all deleted where deleteTags names them', () => {
    expect(planned({ deleteTags: ['pr-*'] }, shapes, { kind: 'archives' })[0]).toBe(
      'delete app/pr-1.tar: deleteTags pr-*',
    );
  });

  test('keep the newest good backup of an image where deleteTags name every tag', () => {
    const plan = planned({ deleteTags: ['*'], keepDays: 30 }, shapes, { kind: 'archives' });
    expect(plan.filter((line) => line.startsWith('delete'))).toEqual([
      'delete app/v1-1.tar: deleteTags *, older than 30 days',
    ]);
  });

  test('of one moment are ordered by their keys: the last one is the newest', () => {
    const same = { 'app/v1-1.tar': { image, age: 9 }, 'app/v1-2.tar': { image, age: 9 } };
    expect(planned({ keepLast: 1 }, same, { kind: 'archives' })[0]).toBe('delete app/v1-1.tar: not in keepLast 1');
  });

  test('stay where they name repositories that have different policies', () => {
    const policies = [
      { repositories: ['prod/*'], keepLast: 50 },
      { repositories: ['*'], keepLast: 1 },
    ];
    const mixed = (others: readonly string[]): PrunePlan =>
      planPrune(
        [
          inventory(
            { a: { image, age: 1 }, b: { image, age: 2 } },
            { kind: 'archives', repository: 'test/app', others },
          ),
        ],
        policies,
        OPTIONS,
      );
    expect(mixed(['test/web']).totals).toMatchObject({ delete: 1, refused: 0 });
    expect(mixed(['prod/app']).repositories[0]).toMatchObject({
      refused: 'it has archives of test/app and prod/app, which have different policies: move one of them',
    });
  });
});

describe('deletes nothing for', () => {
  const shapes = { v1: {}, v2: {} };
  test.each<[string, Partial<Inventory>, Partial<PlanOptions>, string]>([
    ['a list that is not complete', { incomplete: 'HTTP 500' }, {}, 'the list is not complete: HTTP 500'],
    ['a repository without a policy', { repository: 'other' }, {}, 'no policy for it'],
    ['an image without a backup', {}, { allowEmpty: true, unbacked: () => true }, 'no verified backup'],
    ['a policy that keeps nothing', {}, {}, 'the policy would keep nothing'],
  ])('%s', (_, more, options, reason) => {
    expect(planned({ keepDays: 30 }, shapes, more, options).toSorted()).toEqual([
      `keep v1: ${reason}`,
      `keep v2: ${reason}`,
    ]);
  });

  test('deletes everything where allowEmpty permits it', () => {
    const plan = planned({ keepDays: 30 }, shapes, {}, { allowEmpty: true });
    expect(plan.every((line) => line.startsWith('delete'))).toBe(true);
  });
});

test('deletes the oldest groups up to maxDeletes, never a part of one, and none that is larger than a run', () => {
  const shapes = {
    v1: { age: 90, children: 'a b c' },
    a: { tags: '' },
    b: { tags: '' },
    c: { tags: '' },
    v2: { age: 80, children: 'd' },
    d: { tags: '' },
    v3: { age: 70, children: 'e' },
    e: { tags: '' },
    v4: { age: 1 },
  };
  const plan = planPrune([inventory(shapes)], [{ repositories: ['*'], keepDays: 30 }], { ...OPTIONS, maxDeletes: 3 });
  expect(plan.totals).toEqual({ keep: 7, delete: 2, untag: 0, left: 6, bytes: 0, refused: 0 });
  const lines = read(plan, shapes);
  expect(lines.slice(0, 2)).toEqual(['delete v2: older than 30 days', 'delete d: child of v2']);
  expect(lines).toContain('keep v3: left for the next run');
  expect(lines).toContain('keep v1: goes with 4 items, more than maxDeletes 3');
});
