import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatJob, parseMessage } from '../../../../worker/queue/job.ts';
import { digestOf, type Digest } from '../../../../worker/oci/digest.ts';
import { choicesKey, destinationsOf } from '../../../../worker/rules/destinations.ts';
import {
  afterRepository,
  FROM_THE_START,
  isAfter,
  isPlanJobId,
  mayHaveAfter,
  nameOf,
  planJobId,
  planJobs,
  referenceOf,
  rememberedManifests,
  shortened,
  type Known,
  type Presence,
  type SourceImage,
} from '../../../../worker/service/planner/plan-jobs.ts';
import { parseConfig } from '../../../../worker/rules/config.ts';
import type { CopyRule } from '../../../../worker/rules/rule.ts';
import type { SyncRecord } from '../../../../worker/state/state.ts';

const RULE: CopyRule = {
  kind: 'mirror',
  name: 'mirror-app',
  from: ['source.example/app'],
  to: ['one.example/{repository}', 'two.example/copies/{repository}'],
  tags: { include: [], exclude: [], untagged: false },
  platforms: [],
  referrers: true,
  schedule: { cron: '0 * * * *', timeZone: 'UTC' },
  onPush: false,
};
const STARTED_AT_MS = Date.UTC(2026, 0, 1);
const FROM = {
  rule: RULE,
  run: 'run-1',
  startedAtMs: STARTED_AT_MS,
  registry: 'source.example',
  repository: 'app',
} as const;

function digest(name: string): Digest {
  return digestOf(Buffer.from(name));
}

/** The record of a worker after a copy. */
function recordsOf(rule: CopyRule, images: readonly SourceImage[], change: Partial<SyncRecord> = {}): SyncRecord[] {
  const records = images.flatMap((image) =>
    destinationsOf(rule, referenceOf('source.example', 'app', image), image.digest, STARTED_AT_MS).map((key) => ({
      group: key.group,
      name: key.name,
      source: 'docker://source.example/app',
      sourceDigest: image.digest,
      digest: image.digest,
      choices: choicesKey(rule),
      manifests: rememberedManifests([image.digest]),
      bytes: 1,
      atMs: STARTED_AT_MS,
      run: 'run-0',
    })),
  );
  return records.map((record) => Object.assign(record, change));
}

function known(records: readonly SyncRecord[], o: Partial<Known> = {}): Known {
  const byKey = new Map(records.map((record) => [`${record.group} ${record.name}`, record]));
  return {
    record: ({ group, name }) => byKey.get(`${group} ${name}`),
    presence: () => 'there',
    referrers: new Map(),
    ...o,
  };
}

const V1: SourceImage = { tag: 'v1', digest: digest('v1') };

describe('an image', () => {
  test('is copied to every destination if it was never copied', () => {
    const { jobs, unchanged } = planJobs({ ...FROM, images: [V1] }, known([]));
    expect(unchanged).toBe(0);
    expect(jobs).toMatchObject([
      {
        version: 1,
        kind: 'mirror',
        run: 'run-1',
        rule: 'mirror-app',
        at: '2026-01-01T00:00:00.000Z',
        from: 'docker://source.example/app:v1',
        digest: V1.digest,
        to: ['docker://one.example/app:v1', 'docker://two.example/copies/app:v1'],
      },
    ]);
  });

  test('needs nothing if every destination was made equal to it', () => {
    expect(planJobs({ ...FROM, images: [V1] }, known(recordsOf(RULE, [V1])))).toMatchObject({ jobs: [], unchanged: 1 });
  });

  test.each<[string, Partial<SyncRecord>]>([
    ['another digest', { sourceDigest: digest('older') }],
    ['other choices', { choices: choicesKey({ platforms: ['linux/amd64'] }) }],
  ])('is copied when its record has %s', (_, change) => {
    expect(planJobs({ ...FROM, images: [V1] }, known(recordsOf(RULE, [V1], change))).jobs).toHaveLength(1);
  });

  test.each<[Presence, number]>([
    ['there', 0],
    ['gone', 1],
    [V1.digest, 0],
    [digest('another image'), 1],
  ])('with a destination that is %s makes %d jobs', (presence, jobs) => {
    const plan = planJobs({ ...FROM, images: [V1] }, known(recordsOf(RULE, [V1]), { presence: () => presence }));
    expect(plan.jobs).toHaveLength(jobs);
  });

  const WRITTEN = { size: 4096, etag: '"abc-1"' };
  test.each<[string, Partial<SyncRecord>, Presence, string | undefined]>([
    ['as it was written', WRITTEN, WRITTEN, undefined],
    ['as it was written, its ETag without quotes', WRITTEN, { size: 4096, etag: 'abc-1' }, undefined],
    ['of another size', WRITTEN, { size: 9, etag: '"abc-1"' }, '9 bytes instead of 4096'],
    ['of another ETag', WRITTEN, { size: 4096, etag: '"xyz"' }, 'its ETag is xyz instead of abc-1'],
    ['of a record that older versions wrote', {}, { size: 9, etag: '"xyz"' }, undefined],
  ])('is archived again only if it changed: an archive %s', (_, change, presence, fault) => {
    const backup = {
      ...RULE,
      kind: 'backup' as const,
      to: ['s3://bucket/{repository}/{tag}.tar', 's3://other/{tag}.tar'],
    };
    const [first, other] = recordsOf(backup, [V1], change);
    assert(first && other);
    const images = { ...FROM, rule: backup, images: [V1] };
    const plan = planJobs(images, known([first], { presence: () => presence }));
    const once = { to: ['s3://other/v1.tar'] };
    // the other one is new, and nothing there may be replaced
    expect(plan.jobs[0]).toMatchObject(once);
    expect(plan.jobs[0]).not.toHaveProperty('force');
    if (fault === undefined) return expect(plan.jobs).toHaveLength(1);
    expect(plan.jobs[1]).toMatchObject({ to: ['s3://bucket/app/v1.tar'], force: true });
    expect(plan.faults.get(plan.jobs[1]?.id ?? '')).toBe(
      `s3://bucket/app/v1.tar: archive changed since it was written: ${fault}`,
    );
    expect(plan.faults.size).toBe(1);
  });

  test('is found by the digest of its chosen platforms', () => {
    const made = digest('made');
    const records = recordsOf(RULE, [V1], { digest: made });
    expect(planJobs({ ...FROM, images: [V1] }, known(records, { presence: () => made })).unchanged).toBe(1);
    expect(planJobs({ ...FROM, images: [V1] }, known(records, { presence: () => V1.digest })).unchanged).toBe(0);
  });

  test('is copied only to the destinations that need it', () => {
    const [first] = recordsOf(RULE, [V1]);
    assert(first);
    const { jobs } = planJobs({ ...FROM, images: [V1] }, known([first]));
    expect(jobs[0]?.to).toEqual(['docker://two.example/copies/app:v1']);
  });

  test('is copied by its digest without a tag', () => {
    const { jobs } = planJobs({ ...FROM, images: [{ tag: undefined, digest: V1.digest }] }, known([]));
    expect(jobs[0]?.from).toBe(`docker://source.example/app@${V1.digest}`);
    expect(jobs[0]?.to[0]).toBe(`docker://one.example/app@${V1.digest}`);
  });

  test('has one destination where two templates are equal', () => {
    const rule = { ...RULE, to: ['one.example/{repository}', 'docker://one.example/app'] };
    const { jobs } = planJobs({ ...FROM, rule, images: [V1] }, known([]));
    expect(jobs[0]?.to).toEqual(['docker://one.example/app:v1']);
  });

  test('has the choices of its rule in its job', () => {
    const rule: CopyRule = { ...RULE, platforms: ['linux/arm64'], referrers: false, create: { scanOnPush: true } };
    const { jobs } = planJobs({ ...FROM, rule, images: [V1] }, known([]));
    expect(jobs[0]).toMatchObject({ platforms: ['linux/arm64'], referrers: false, create: { scanOnPush: true } });
  });
});

describe('a referrer of an unchanged image', () => {
  const child = digest('child');
  const signature = digest('signature');
  const manifests = rememberedManifests([V1.digest, child]);
  const referring = (subject: Digest): Pick<Known, 'referrers'> => ({
    referrers: new Map([[shortened(subject), [shortened(signature)]]]),
  });

  test.each([
    ['the image', V1.digest, 1],
    ['a child of it', child, 1],
    ['another image', digest('another'), 0],
  ])('is copied when it is new and about %s', (_, subject, jobs) => {
    const plan = planJobs({ ...FROM, images: [V1] }, known(recordsOf(RULE, [V1], { manifests }), referring(subject)));
    expect(plan.jobs).toHaveLength(jobs);
  });

  test('is not copied again', () => {
    const records = recordsOf(RULE, [V1], { manifests: rememberedManifests([V1.digest, child, signature]) });
    expect(planJobs({ ...FROM, images: [V1] }, known(records, referring(child))).unchanged).toBe(1);
  });

  test('is copied when its subject was copied too', () => {
    const sbom = digest('sbom');
    const records = recordsOf(RULE, [V1], { manifests: rememberedManifests([V1.digest, sbom]) });
    expect(planJobs({ ...FROM, images: [V1] }, known(records, referring(sbom))).jobs).toHaveLength(1);
  });

  test('stays where the rule turns referrers off', () => {
    const rule = { ...RULE, referrers: false };
    const plan = planJobs({ ...FROM, rule, images: [V1] }, known(recordsOf(rule, [V1]), referring(V1.digest)));
    expect(plan.unchanged).toBe(1);
  });

  test('is looked at each time where there are too many to remember', () => {
    const many = Array.from({ length: 1001 }, (_, i) => digest(String(i)));
    const records = recordsOf(RULE, [V1], { manifests: rememberedManifests(many) });
    expect(planJobs({ ...FROM, images: [V1] }, known(records, referring(V1.digest))).jobs).toHaveLength(1);
    expect(planJobs({ ...FROM, images: [V1] }, known(records)).unchanged).toBe(1);
  });
});

const images = fc
  .uniqueArray(fc.stringMatching(/^[a-z0-9_][a-z0-9._-]{0,6}$/), { maxLength: 12 })
  .map((tags) => tags.map((tag): SourceImage => ({ tag, digest: digest(tag) })));

test('every image is either unchanged or has one job, and every job can be sent', () => {
  fc.assert(
    fc.property(images, fc.infiniteStream(fc.boolean()), (all, coins) => {
      const records = recordsOf(RULE, all).filter(() => coins.next().value === true);
      const { jobs, unchanged } = planJobs({ ...FROM, images: all }, known(records));
      expect(unchanged + jobs.length).toBe(all.length);
      expect(new Set(jobs.map(({ id }) => id)).size).toBe(jobs.length);
      for (const job of jobs) expect(parseMessage(formatJob(job))).toEqual({ type: 'job', job });
    }),
  );
});

test('earlier work changes no id, and a copied image needs nothing more', () => {
  fc.assert(
    fc.property(images, fc.infiniteStream(fc.boolean()), (all, coins) => {
      const before = planJobs({ ...FROM, images: all }, known([]));
      const done = recordsOf(RULE, all).filter(() => coins.next().value === true);
      const after = planJobs({ ...FROM, images: all }, known(done));
      const ids = new Set(before.jobs.map(({ id }) => id));
      for (const { id } of after.jobs) expect(ids).toContain(id);
      const missing = after.jobs.flatMap(({ to }) => to).length;
      expect(missing + done.length).toBe(2 * all.length);
      expect(planJobs({ ...FROM, images: all }, known(recordsOf(RULE, all)))).toMatchObject({
        jobs: [],
        unchanged: all.length,
      });
    }),
  );
});

test('the same image in another run is another job', () => {
  const [one] = planJobs({ ...FROM, images: [V1] }, known([])).jobs;
  const [other] = planJobs({ ...FROM, run: 'run-2', images: [V1] }, known([])).jobs;
  expect(one?.id).not.toBe(other?.id);
});

describe('the order of planning', () => {
  const place = fc.record({
    repository: fc.constantFrom('a.example/x', 'a.example/x/y', 'b.example/x'),
    name: fc.constantFrom('1', 'v1', 'zzz', `@${digest('untagged')}`),
  });

  test('is total: exactly one of two images is after the other', () => {
    fc.assert(
      fc.property(place, place, (a, b) => {
        const same = a.repository === b.repository && a.name === b.name;
        const orders = [isAfter(a, b.repository, b.name), isAfter(b, a.repository, a.name)];
        expect(orders.filter(Boolean)).toHaveLength(same ? 0 : 1);
      }),
    );
  });

  test('has everything after the start, and nothing of a repository after its end', () => {
    fc.assert(
      fc.property(place, ({ repository, name }) => {
        expect(isAfter(FROM_THE_START, repository, name)).toBe(true);
        expect(isAfter(afterRepository(repository), repository, name)).toBe(false);
        expect(mayHaveAfter(afterRepository(repository), repository)).toBe(false);
        expect(mayHaveAfter({ repository, name }, repository)).toBe(true);
      }),
    );
  });

  test('names images by tag, untagged ones by digest', () => {
    expect(nameOf(V1)).toBe('v1');
    expect(nameOf({ tag: undefined, digest: V1.digest })).toBe(`@${V1.digest}`);
  });
});

test('a job that continues planning is recognized by its id', () => {
  expect(isPlanJobId(planJobId('run-1', FROM_THE_START))).toBe(true);
  expect(planJobId('run-1', FROM_THE_START)).not.toBe(planJobId('run-1', afterRepository('a.example/x')));
  const [job] = planJobs({ ...FROM, images: [V1] }, known([])).jobs;
  expect(isPlanJobId(job?.id ?? '')).toBe(false);
});

describe('everything that a rules file accepts fits into a message', () => {
  const read = (rule: string): CopyRule => {
    const [only] = parseConfig(`version: 1\nrules: [{ name: x, schedule: '@daily', ${rule} }]`).rules;
    assert(only?.kind === 'mirror' || only?.kind === 'backup');
    return only;
  };
  const many = (count: number): string =>
    Array.from({ length: count }, (_, i) => `"s3://bucket/${i}/{tag}.tar"`).join();

  test.each([
    `mirror: { from: source.example/app, to: 'r.example/{repository}', platforms: [Linux/x_y/v-8, windows/amd64.10] }`,
    `backup: { from: source.example/app, to: "s3://bucket/ü ñ\\u2028+%2F&=日本/ {repository} /{tag} .tar" }`,
    `backup: { from: source.example/app, to: [${many(100)}] }`,
  ])('%s', (text) => {
    const rule = read(text);
    const { jobs } = planJobs({ ...FROM, rule, images: [{ tag: 'A'.repeat(128), digest: digest('a') }] }, known([]));
    expect(jobs).toHaveLength(1);
    for (const job of jobs) expect(parseMessage(formatJob(job))).toMatchObject({ type: 'job', job });
  });

  test.each([
    ['a line break', `backup: { from: source.example/app, to: "s3://bucket/a\\nb/{tag}.tar" }`],
    ['half a character', `backup: { from: source.example/app, to: "s3://bucket/\\ud800/{tag}.tar" }`],
    ['too many destinations', `backup: { from: source.example/app, to: [${many(101)}] }`],
  ])('%s is refused in the file', (_, text) => {
    expect(() => read(text)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });
});
