// The templates of the examples, for reviewers of a change: `npx vitest run test/infra/snapshots.test.ts -u` writes them anew.
import { globSync } from 'node:fs';
import { basename } from 'node:path';
import { Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { plainText } from '../../infra/synth/plain-synthesizer.ts';
import { readSettings } from '../../infra/settings/settings.ts';
import { EXAMPLES, findings, PORTABLE, portableStacks, stacksOf } from './templates.ts';

const EXPECTED: Readonly<Record<(typeof EXAMPLES)[number], readonly string[]>> = {
  minimal: ['Transship'],
  production: ['Transship'],
  vault: ['Transship', 'TransshipVault'],
  replication: ['Transship', 'TransshipRegistries', 'TransshipReplicas-eu-west-1', 'TransshipReplicas-us-east-1'],
};

/** Hashes of the functions' code and of the worker's image, which change with each change of the worker. */
const HASHES = /\b[0-9a-f]{64}\b/g;

describe.each(EXAMPLES)('%s', (example) => {
  const stacks = stacksOf(readSettings(`infra/examples/${example}.yaml`));

  test('has its stacks', () => {
    expect([...stacks.keys()].toSorted()).toEqual(EXPECTED[example].toSorted());
  });

  test.each(EXPECTED[example])('makes of %s the reviewed template, and cdk-nag finds nothing in it', async (id) => {
    const stack = stacks.get(id);
    if (stack === undefined) throw new Error(`there is no ${id}`);
    const template = plainText(Template.fromStack(stack).toJSON());
    await expect(template.replaceAll(HASHES, 'HASH')).toMatchFileSnapshot(`snapshots/${example}/${id}.yaml`);
    expect(findings(stack)).toEqual([]);
  });
});

describe('portable', () => {
  const stacks = portableStacks();

  test.each(PORTABLE)('makes of %s the reviewed template, and cdk-nag finds nothing in it', async (id) => {
    const stack = stacks.get(id);
    if (stack === undefined) throw new Error(`there is no ${id}`);
    const template = plainText(Template.fromStack(stack).toJSON());
    await expect(template.replaceAll(HASHES, 'HASH')).toMatchFileSnapshot(`snapshots/portable/${id}.yaml`);
    expect(findings(stack)).toEqual([]);
  });
});

test('has no other snapshot, and no other example', () => {
  const reviewed = Object.entries({ ...EXPECTED, portable: PORTABLE }).flatMap(([example, ids]) =>
    ids.map((id) => `${example}/${id}.yaml`),
  );
  expect(globSync('*/*', { cwd: 'test/infra/snapshots' }).toSorted()).toEqual(reviewed.toSorted());
  expect(
    globSync('infra/examples/*')
      .map((file) => basename(file, '.yaml'))
      .toSorted(),
  ).toEqual(EXAMPLES.toSorted());
});
