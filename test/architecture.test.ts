// The layers of this repository, as a table that fails the build. A folder may import the ones named, and itself.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, normalize } from 'node:path';
import { test } from 'vitest';

const MAY_IMPORT: Record<string, readonly string[]> = {
  util: [],
  oci: ['util'],
  content: ['oci', 'util'],
  objects: ['content', 'oci', 'util'],
  copy: ['content', 'oci', 'util'],
  registry: ['content', 'oci', 'util'],
  archive: ['content', 'objects', 'oci', 'util'],
  jobs: ['util'],
  state: ['oci', 'util'],
  plan: ['jobs', 'state', 'oci', 'util'],
  operations: ['plan', 'jobs', 'state', 'archive', 'copy', 'objects', 'content', 'oci', 'util'],
  telemetry: ['util'],
  local: ['oci', 'util'],
  commands: ['operations', 'plan', 'jobs', 'state', 'local', 'util'],
  entry: ['*'], // worker/*.ts
};
const SDK_ONLY_IN = new Set([
  'objects/s3.ts',
  'registry/ecr.ts',
  'registry/secrets.ts',
  'jobs/sqs.ts',
  'state/dynamo.ts',
]);
const LOCAL_ONLY_IN = new Set(['commands/demo.ts', 'commands/local.ts']);

function layerOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : 'entry';
}

for (const file of globSync('worker/**/*.ts').sort()) {
  const inside = file.slice('worker/'.length);
  const layer = layerOf(inside);
  test(inside, () => {
    const allowed = MAY_IMPORT[layer];
    assert.ok(allowed, `folder ${layer}/ has no row in the layer table`);
    for (const [, specifier = ''] of readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)) {
      if (specifier.startsWith('@aws-sdk/'))
        assert.ok(SDK_ONLY_IN.has(inside), `${specifier}: the SDK stays in ${[...SDK_ONLY_IN].join(', ')}`);
      if (!specifier.startsWith('.')) continue;
      const to = normalize(`${dirname(inside)}/${specifier}`);
      assert.ok(!to.startsWith('..'), `reaches outside worker/: ${specifier}`);
      const target = layerOf(to);
      if (target === 'local' && layer !== 'local')
        assert.ok(LOCAL_ONLY_IN.has(inside), 'the local stack is for the demo and the tests');
      if (target === layer || allowed.includes('*')) continue;
      assert.ok(allowed.includes(target), `imports ${to}: ${layer}/ may import ${allowed.join(', ') || 'nothing'}`);
    }
  });
}

for (const inside of SDK_ONLY_IN) {
  test(`${inside} waits for no answer for ever: the SDK does unless it is told otherwise`, () => {
    const source = readFileSync(`worker/${inside}`, 'utf8');
    const clients = [...source.matchAll(/new (?:sdk\.)?(?:[A-Z]\w*Client|ECR|ECRPUBLIC|SecretsManager)\((.*?)\);$/gms)];
    assert.ok(clients.length > 0, 'it makes no client');
    const options = [...clients, ...source.matchAll(/clientConfig: (\{.*?\})/gs)];
    for (const [, given = ''] of options) assert.match(given, /requestHandler: \{|\.\.\.SDK_TIMEOUTS/);
  });
}

const INFRA_MAY_IMPORT = /^(?:aws-cdk-lib(?:\/.+)?|constructs|cdk-nag|yaml|zod|node:.+)$/;

for (const file of globSync('infra/**/*.ts').sort()) {
  test(`${file} shares nothing with the worker but what is pure and small`, () => {
    for (const [, specifier = ''] of readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)) {
      if (!specifier.startsWith('.')) {
        assert.match(specifier, INFRA_MAY_IMPORT, 'infra/ describes, and calls nothing');
        continue;
      }
      const to = normalize(`${dirname(file)}/${specifier}`);
      assert.ok(to.startsWith('infra/') || to.startsWith('worker/util/'), `imports ${to}`);
    }
  });
}

test('the layer table has no cycle', () => {
  const seen = new Map<string, 'open' | 'done'>();
  const visit = (name: string): void => {
    if (seen.get(name) === 'done') return;
    assert.notEqual(seen.get(name), 'open', `cycle through ${name}/`);
    seen.set(name, 'open');
    for (const next of MAY_IMPORT[name] ?? []) if (next !== '*') visit(next);
    seen.set(name, 'done');
  };
  Object.keys(MAY_IMPORT).forEach(visit);
});

const TIME_AND_CHANCE = /\b(?:Date\.now|performance\.now|setTimeout|setInterval|Math\.random)\b/;
const AROUND = /\bprocess\.(?:env|argv|on|once|exit)\b/;

for (const file of globSync('worker/**/*.ts').sort()) {
  const inside = file.slice('worker/'.length);
  // a server keeps time as the one it stands in for does; everything else asks the clock
  if (inside.startsWith('local/')) continue;
  const text = readFileSync(file, 'utf8');
  test(`${inside} takes time, chance and surroundings from outside`, () => {
    if (inside !== 'util/clock.ts') assert.doesNotMatch(text, TIME_AND_CHANCE);
    if (inside.includes('/')) assert.doesNotMatch(text, AROUND);
  });
}
