// The layers of this repository, as a table that fails the build. A folder may import itself and the folders named.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, normalize } from 'node:path';
import { test } from 'vitest';

/** Folders without a row belong to the nearest parent that has one. Names leave out `worker/`. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  util: [],
  oci: ['util'],
  content: ['oci', 'util'],
  copy: ['content', 'oci', 'util'],
  objects: ['content', 'oci', 'util'],
  registry: ['registry/transport', 'content', 'oci', 'util'],
  'registry/transport': ['content', 'util'],
  archive: ['objects', 'content', 'oci', 'util'],
  retention: ['oci', 'util'],
  artifacts: ['content', 'oci', 'util'],
  store: ['archive', 'retention', 'objects', 'content', 'oci', 'util'],
  images: ['archive', 'store', 'artifacts', 'retention', 'copy', 'objects', 'content', 'oci', 'util'],
  serve: ['images', 'content', 'oci', 'util'],
  queue: ['util'],
  state: ['oci', 'util'],
  tasks: ['util'],
  vault: ['util'],
  costs: ['util'],
  rules: ['retention', 'queue', 'state', 'oci', 'util'],
  service: ['images', 'rules', 'retention', 'queue', 'state', 'tasks', 'oci', 'util'],
  'service/planner': ['service', 'images', 'rules', 'queue', 'state', 'content', 'oci', 'util'],
  'service/worker': ['service/planner', 'service', 'images', 'rules', 'queue', 'state', 'oci', 'util'],
  'service/cleaner': ['service/planner', 'service', 'images', 'rules', 'retention', 'queue', 'state', 'oci', 'util'],
  'service/admin': ['service/planner', 'service', 'images', 'rules', 'retention', 'queue', 'state', 'oci', 'util'],
  telemetry: ['util'],
  commands: [
    'service/planner',
    'service/cleaner',
    'service/admin',
    'service',
    'serve',
    'images',
    'rules',
    'retention',
    'state',
    'tasks',
    'costs',
    'oci',
    'util',
  ],
  main: ['*'],
  local: ['oci', 'util'],
  'local/commands': ['*'],
  'local/main': ['*'],
};
/** Files that make clients of the SDK. */
const SDK_CLIENTS_IN = [
  'objects/s3/client.ts',
  'registry/ecr/aws-access.ts',
  'registry/ecr/client.ts',
  'registry/ecr/public-credentials.ts',
  'registry/secrets.ts',
  'queue/sqs.ts',
  'state/dynamo.ts',
  'store/kms.ts',
  'state/table-items.ts',
  'tasks/ecs.ts',
  'vault/restore-results.ts',
];
/** Files that send commands through a client that is passed to them. */
const SDK_COMMANDS_IN = [
  'objects/s3/delete.ts',
  'objects/s3/lent-bodies.ts',
  'objects/s3/multipart.ts',
  'objects/s3/presign.ts',
  'objects/s3/read.ts',
  'objects/s3/store.ts',
  'registry/ecr/apply-registry-settings.ts',
  'registry/ecr/authorizer.ts',
  'registry/ecr/deletions.ts',
  'registry/ecr/images.ts',
  'registry/ecr/read-registry-settings.ts',
  'registry/ecr/repositories.ts',
  'registry/ecr/storage-class.ts',
];
const SDK_ONLY_IN = new Set([...SDK_CLIENTS_IN, ...SDK_COMMANDS_IN]);
/** Where a client of the SDK is made. */
const NEW_CLIENT = /new (?:sdk\.)?(?:[A-Z]\w*Client|ECR|ECRPUBLIC|KMS|SecretsManager)\((.*?)\);$/gms;
const IMPORT = /(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g;

const SOURCES = [...globSync('worker/**/*.ts'), ...globSync('local/**/*.ts', { exclude: ['local/test/**'] })]
  .filter((file) => !file.includes('node_modules'))
  .sort();

/** The row of a file. */
function layerOf(file: string): string {
  if (file === 'local/cli.ts') return 'local/main';
  for (let folder = dirname(file).replace(/^worker\/?/, ''); folder !== '.' && folder !== ''; folder = dirname(folder))
    if (folder in MAY_IMPORT) return folder;
  return file;
}

for (const file of SOURCES) {
  const layer = layerOf(file);
  test(`${file} imports only what its layer may`, () => {
    const allowed = MAY_IMPORT[layer];
    assert.ok(allowed, `${layer} has no row in the layer table`);
    for (const [, specifier = ''] of readFileSync(file, 'utf8').matchAll(IMPORT)) {
      if (specifier.startsWith('@aws-sdk/'))
        assert.ok(
          SDK_ONLY_IN.has(file.slice('worker/'.length)),
          `${specifier}: the SDK stays in ${[...SDK_ONLY_IN].join(', ')}`,
        );
      if (file.startsWith('worker/'))
        assert.doesNotMatch(specifier, /^@transship\/local/, 'the program does not know the embedded stack');
      if (!specifier.startsWith('.')) continue;
      const to = normalize(`${dirname(file)}/${specifier}`);
      // its version
      if (to === 'package.json' && layer === 'main') continue;
      if (file.startsWith('worker/')) assert.ok(to.startsWith('worker/'), `reaches outside worker/: ${specifier}`);
      const target = layerOf(to);
      if (target === layer || allowed.includes('*')) continue;
      assert.ok(allowed.includes(target), `imports ${to}: ${layer}/ may import ${allowed.join(', ') || 'nothing'}`);
    }
  });
}

for (const inside of SDK_CLIENTS_IN) {
  test(`${inside} sets a timeout for every answer: the SDK sets no default`, () => {
    const source = readFileSync(`worker/${inside}`, 'utf8');
    const clients = [...source.matchAll(NEW_CLIENT)];
    const options = [...clients, ...source.matchAll(/clientConfig: (\{.*?\})/gs)];
    assert.ok(options.length > 0, 'it makes no client');
    assert.match(source, /proxiedAgent\(|sdkRequests\(/, 'it does not use the proxies of the environment');
    for (const [, given = ''] of options) assert.match(given, /requestHandler: \{|\.\.\.sdkRequests\(/);
  });
}

for (const inside of SDK_COMMANDS_IN) {
  test(`${inside} makes no client of the SDK`, () => {
    assert.doesNotMatch(readFileSync(`worker/${inside}`, 'utf8'), NEW_CLIENT);
  });
}

const INFRA_MAY_IMPORT = /^(?:aws-cdk-lib(?:\/.+)?|constructs|cdk-nag|yaml|zod|node:.+)$/;

for (const file of globSync('infra/**/*.ts').sort()) {
  test(`${file} shares nothing with the worker except what is pure and small`, () => {
    for (const [, specifier = ''] of readFileSync(file, 'utf8').matchAll(IMPORT)) {
      if (!specifier.startsWith('.')) {
        assert.match(specifier, INFRA_MAY_IMPORT, 'infra/ describes, and calls nothing');
        continue;
      }
      const to = normalize(`${dirname(file)}/${specifier}`);
      assert.ok(to.startsWith('infra/') || to.startsWith('worker/util/'), `imports ${to}`);
    }
  });
}

test('docs/architecture.md shows this layer table', () => {
  const page = readFileSync('docs/architecture.md', 'utf8');
  const row = ([folder, allowed]: readonly [string, readonly string[]]): string => {
    const text = allowed.includes('*') ? 'anything' : allowed.join(', ') || 'nothing';
    return `| ${folder} | ${text} |`;
  };
  const table = ['| folder | may import |', '|---|---|', ...Object.entries(MAY_IMPORT).map(row)].join('\n');
  assert.ok(page.includes(`\n${table}\n\n`), `the table there is another than\n${table}`);
});

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
/** Connections use the machine's timers, as those of undici and Node do: a fake clock cannot move what a server does. */
const KEEPS_TIME = new Set(['worker/util/clock.ts', 'worker/util/http/connection.ts', 'worker/util/http/lent-body.ts']);
const AROUND = /\bprocess\.(?:env|argv|on|once|exit)\b/;

// a server of the embedded stack uses real time like the service it stands in for; everything else asks the clock
for (const file of globSync('worker/**/*.ts').sort()) {
  const text = readFileSync(file, 'utf8');
  test(`${file} takes time, randomness and environment as parameters`, () => {
    if (!KEEPS_TIME.has(file)) assert.doesNotMatch(text, TIME_AND_CHANCE);
    if (!file.startsWith('worker/main/')) assert.doesNotMatch(text, AROUND);
  });
}

test('tests wait with `eventually`: the waits of vitest give up after a second, which is too short on a busy machine', () => {
  const files = globSync(['test/{unit,flows,processes,infra,contracts}/**/*.ts', 'local/test/**/*.ts']);
  const wrong = files.filter((file) => /\b(?:vi\.wait(?:For|Until)|expect\.poll)\b/.test(readFileSync(file, 'utf8')));
  assert.ok(files.length > 300);
  assert.deepEqual(wrong, []);
});
