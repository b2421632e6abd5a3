// Files of other tools, written after their documentation, and the resulting rules files.
import { readFileSync } from 'node:fs';
import semver from 'semver';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../worker/rules/config.ts';
import { importRules, type ImportRequest, type ImportResult } from '../../../worker/rules/import/import.ts';
import { aloneSelector } from '../../../worker/rules/select.ts';
import { isFailure } from '../../../worker/util/failure.ts';
import { cuppettItems } from '../../support/cuppett.ts';

const folder = 'test/fixtures/import';
const read = (name: string): string => readFileSync(`${folder}/${name}`, 'utf8');
const file = (name: string) => ({ text: read(name), file: name });
const inline = (text: string) => ({ text, file: 'given' });

const EXAMPLES: Readonly<Record<ImportRequest['tool'], ImportRequest>> = {
  cuppett: { tool: 'cuppett', table: 'mirrors', items: cuppettItems(read('cuppett.json')) },
  'skopeo-sync': {
    tool: 'skopeo-sync',
    source: file('skopeo-sync.yaml'),
    options: { to: '111111111111.dkr.ecr.us-east-1.amazonaws.com/skopeo/', all: true },
  },
  regsync: { tool: 'regsync', source: file('regsync.yaml') },
  dregsy: { tool: 'dregsy', source: file('dregsy.yaml') },
  'image-syncer': {
    tool: 'image-syncer',
    source: file('image-syncer.images.yaml'),
    auth: file('image-syncer.auth.yaml'),
  },
};

/** The sentence of its INVALID. */
function refusal(request: ImportRequest): string {
  try {
    importRules(request);
  } catch (error) {
    if (isFailure(error, 'INVALID')) return error.message;
    throw error;
  }
  return expect.unreachable('it was imported');
}

const skopeo = (text: string, options: { readonly [key: string]: unknown } = {}): ImportResult =>
  importRules({ tool: 'skopeo-sync', source: inline(text), options: { to: 'to.example', all: true, ...options } });
const regsync = (steps: string): ImportResult => importRules({ tool: 'regsync', source: inline(`sync: [${steps}]`) });

/** Each rule as `from (tags) to`. */
function rulesOf({ text }: ImportResult): readonly string[] {
  return parseConfig(text).rules.map((rule) => {
    if (rule.kind !== 'mirror') return expect.unreachable('only mirrors are made');
    const { include, exclude, semver: range, latest } = rule.tags;
    const tags = [...include, ...exclude.map((one) => `not ${one}`), range, latest && `latest ${latest.count}`];
    return `${rule.from.join(' ')} (${tags.filter((one) => one !== undefined).join(' ')}) ${rule.to.join(' ')}`;
  });
}

describe.each(Object.entries(EXAMPLES))('a configuration of %s', (tool, request) => {
  const result = importRules(request);

  test('becomes the expected rules file', async () => {
    await expect(result.text).toMatchFileSnapshot(`../../fixtures/import/${tool}.rules.yaml`);
  });

  test('becomes a rules file that the program reads, with every loss in it', () => {
    expect(parseConfig(result.text).rules).toHaveLength(result.rules);
    expect(result.rules).toBeGreaterThan(2);
    expect(result.notCarriedOver.length).toBeGreaterThan(0);
    const comments = result.text.split('\n').filter((line) => /^\s*#/.test(line));
    const losses = result.notCarriedOver.filter((line) => !line.includes('credentials'));
    expect(losses.filter((line) => !comments.some((comment) => comment.includes(line)))).toEqual([]);
  });

  test('leaves its secrets behind', () => {
    const printed = `${result.text}${result.notCarriedOver.join('\n')}`;
    expect(printed).not.toMatch(/planted|eyJ|HUB_USER|QUAY_/);
    expect(printed).toContain('credentials are not copied');
  });
});

describe('entries with something in common', () => {
  test('become one rule where only their sources differ', () => {
    const many = Array.from({ length: 10_000 }, (_, index) => `    app-${index}: []`).join('\n');
    const result = skopeo(`from.example:\n  images:\n${many}\n`);
    expect(result.rules).toBe(1);
    expect(result.notCarriedOver).toEqual([]);
    expect(parseConfig(result.text).rules[0]).toMatchObject({ to: ['to.example/{repository}'] });
  });

  test('are divided between the rules of one repository, so that no tag is in two', () => {
    const given =
      'from.example: { images: { a: ["1.0", edge] }, images-by-tag-regex: { a: "^1" }, images-by-semver: { a: "~2.1" } }';
    expect(rulesOf(skopeo(given))).toEqual([
      'from.example/a (1.0 edge) to.example/a',
      'from.example/a (/^1/ not 1.0) to.example/a',
      'from.example/a (not 1.0 not edge not /^1/ >=2.1.0 <2.2.0) to.example/a',
    ]);
  });

  test('are reported where two images have one destination tag, and the first keeps it', () => {
    const step = (from: string, to: string): string => `{ type: image, source: ${from}, target: ${to} }`;
    const result = regsync(
      [
        step('a.example/x:1', 'to.example/x:1'),
        step('b.example/x:1', 'to.example/x:1'),
        step('a.example/x:1', 'to.example/x:1'),
      ].join(','),
    );
    expect(rulesOf(result)).toEqual(['a.example/x (1) to.example/x']);
    expect(result.notCarriedOver).toEqual([
      'sync[1]: to.example/x:1: sync[0] writes it from another image, and a destination has one rule',
    ]);
    expect(result.text).toContain('# sync[2]: 1: sync[0] copies it already');
  });

  test('keep the different destinations of two tags of one image', () => {
    const images = {
      'from.example/a:1,2': ['to.example/a:one,two', 'to.example/b'],
      'from.example/a:3': 'to.example/b:1',
    };
    const result = importRules({ tool: 'image-syncer', source: inline(JSON.stringify(images)) });
    expect(rulesOf(result)).toEqual([
      'from.example/a (1) to.example/a:one',
      'from.example/a (2) to.example/a:two',
      'from.example/a (1 2) to.example/b',
    ]);
    expect(result.notCarriedOver).toHaveLength(1);
  });

  test('leave out only a rule that would write what it reads', () => {
    const result = regsync(
      '{ type: repository, source: a.example/x, target: a.example/x }, { type: repository, source: a.example/y, target: b.example/y }',
    );
    expect(rulesOf(result)).toEqual(['a.example/y () b.example/y']);
    expect(result.notCarriedOver[0]).toMatch(/^sync\[0\]: .*one of its own sources/);
  });
});

describe('many steps of regsync from one repository to one place', () => {
  const TAGS = ['latest', 'edge', '1.0.0', '1.2.0', '1.2.3', '2.0.0', '2.1.0', 'v3.0.0', 'qa-1', 'qa-2'];
  const PATTERNS = ['latest', 'qa-.*', String.raw`1\..*`, 'v?[23].*', '.*0', 'edge|latest'];
  const RANGES = ['>=1.2.0', '^1.0.0', '<2.0.0', '=2.1.0'];
  const OVERLAP = /overlaps with/;

  test('copy each tag by one rule, and exactly the tags that regsync copies', () => {
    let state = 1;
    const chance = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    const some = (all: readonly string[], share: number): readonly string[] => all.filter(() => chance() < share);
    let exact = 0;
    for (let round = 0; round < 50; round++) {
      const steps = Array.from({ length: 3 }, () => ({
        allow: some(PATTERNS, 0.25),
        deny: chance() < 0.3 ? some(PATTERNS, 0.25) : [],
        semverRange: chance() < 0.3 ? some(RANGES, 0.5) : [],
      }));
      const given = steps.map((tags) =>
        JSON.stringify({ type: 'repository', source: 'a.example/x', target: 'b.example/y', referrers: true, tags }),
      );
      const result = regsync(given.join(','));
      const counts = TAGS.map((tag) => selectors(result).filter((selects) => selects({ tag })).length);
      const copied = TAGS.map((tag) => Number(steps.some((step) => regsyncTakes(step, tag))));
      const isExact = !result.notCarriedOver.some((line) => OVERLAP.test(line));
      exact += Number(isExact);
      // left-out steps are reported; nothing is copied twice, or in addition
      if (isExact) expect(counts, given.join('\n')).toEqual(copied);
      else
        expect(
          counts.every((count, index) => count <= (copied[index] ?? 0)),
          given.join('\n'),
        ).toBe(true);
    }
    expect(exact).toBeGreaterThan(20);
  });

  function selectors({ text }: ImportResult): readonly ((image: { readonly tag: string }) => boolean)[] {
    return parseConfig(text).rules.flatMap((rule) => (rule.kind === 'mirror' ? [aloneSelector(rule.tags)] : []));
  }

  /** The behaviour of regsync, implemented again. */
  function regsyncTakes(
    { allow, deny, semverRange }: Readonly<Record<'allow' | 'deny' | 'semverRange', readonly string[]>>,
    tag: string,
  ): boolean {
    const matches = (pattern: string): boolean => new RegExp(`^${pattern}$`).test(tag);
    const version = semver.parse(tag.replace(/^v/, ''));
    if (semverRange.length > 0 && (version === null || !semverRange.some((one) => semver.satisfies(version, one))))
      return false;
    return (allow.length === 0 || allow.some(matches)) && !deny.some(matches);
  }
});

describe('bad input', () => {
  const requests = {
    'skopeo-sync': (text: string): ImportRequest => ({
      tool: 'skopeo-sync',
      source: inline(text),
      options: { to: 'to.example' },
    }),
    regsync: (text: string): ImportRequest => ({ tool: 'regsync', source: inline(text) }),
    dregsy: (text: string): ImportRequest => ({ tool: 'dregsy', source: inline(text) }),
    'image-syncer': (text: string): ImportRequest => ({ tool: 'image-syncer', source: inline(text) }),
  };

  test.each(Object.entries(requests))(
    '%s: an empty file, one that is not YAML, a list and one that is too large are refused',
    (_, of) => {
      for (const text of ['', '# nothing\n', '~']) expect(refusal(of(text))).toBe('read given: it is empty');
      expect(refusal(of('a: [planted'))).toMatch(/^read given: .*\ngiven:1:\d+: not YAML from here on$/);
      expect(refusal(of('[]'))).toContain('it is not a file of');
      expect(refusal(of('x'.repeat(1024 * 1024 + 1)))).toContain('is the most that is allowed: split it');
    },
  );

  test('a file of another tool is recognized, whichever tool is named', () => {
    const names = Object.keys(requests) as (keyof typeof requests)[];
    for (const [tool, of] of Object.entries(requests))
      for (const other of names.filter((name) => name !== tool)) {
        const name = other === 'image-syncer' ? 'image-syncer.images.yaml' : `${other}.yaml`;
        expect(refusal(of(read(name)))).toContain(`it looks like one of ${other}: transship import ${other}`);
      }
    expect(refusal(requests['image-syncer'](read('image-syncer.auth.yaml')))).toContain('with --auth');
  });

  test('a table of something else is refused, instead of becoming one comment for each item', () => {
    const items = [{ pk: 'RULE#a' }, { pk: 'RUN#b', Destination: 'x' }];
    expect(() => importRules({ tool: 'cuppett', table: 'state', items })).toThrow(
      'read table state: it is not a table of aws-ecr-mirror: no item has a Source: check the name',
    );
  });

  test.each(['*planted', '!planted x', '"planted', '@planted', '%planted', '&p [planted', '{ planted: '])(
    'a password that YAML reads otherwise, %s, appears in no message',
    (password) => {
      const text = `creds: [{ registry: a.example, pass: ${password} }]\nsync:\n  - type: image\n`;
      let said: string;
      try {
        said = JSON.stringify(importRules(requests.regsync(text)));
      } catch (error) {
        said = String(error);
      }
      expect(said).not.toContain('planted');
    },
  );

  test('values of the wrong type are named by their path, and never shown', () => {
    const wrong = [
      'type: [planted]',
      'type: planted',
      'type: image\n    source: { planted: 1 }',
      'tags: { allow: planted }\n    type: repository\n    source: a\n    target: b.example/c',
    ];
    for (const step of wrong) {
      const sentence = refusal(requests.regsync(`sync:\n  - ${step}\n`));
      expect(sentence).toMatch(/^read given: sync\[0\]\.\w+(?:\.allow)?: expected /);
      expect(sentence).not.toContain('planted');
    }
  });

  test('text of the file stays inside its comment', () => {
    const result = regsync(String.raw`{ type: repository, source: "a\n  - name: planted", target: b.example/c }`);
    expect(parseConfig(result.text).rules).toEqual([]);
    expect(result.text).toContain(String.raw`a\n  - name: planted`);
    const secret = regsync(
      '{ type: repository, source: "https://ann:planted@a.example/x?token=planted", target: b.example/c }',
    );
    expect(secret.text).not.toContain('planted');
  });

  test('more entries than a rules file has room for are refused', () => {
    const many = Object.fromEntries(
      Array.from({ length: 10_000 }, (_, index) => [`from.example/team/app-${index}`, `to.example/app-${index}`]),
    );
    expect(refusal(requests['image-syncer'](JSON.stringify(many)))).toContain('is the most that is allowed: split it');
  });
});
