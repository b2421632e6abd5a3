// The configuration of another tool becomes rules, and the rules run: import, then sync --dry-run, over the embedded stack.
import { DynamoDB } from '@aws-sdk/client-dynamodb';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { z } from 'zod';
import { commandLine } from '../support/command-line.ts';
import { cuppettScan } from '../support/cuppett.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, ecr, otherEcr, environment, dynamodb } = lab.stack;
const HOME = ecr.registryHost;
const ABROAD = otherEcr.registryHost;

const IMAGES: readonly (readonly [typeof registry, string, readonly string[]])[] = [
  [registry, 'team/app', ['v1', 'v2', 'v3', '1.1.0', '1.2.0', '1.3.0', 'latest']],
  [registry, 'tools', ['1.0', '1.1', '2.0', 'latest']],
  [registry, 'worker', ['1.0', '2.0', 'latest']],
  [registry, 'versions', ['1.2.0', '1.2.1-rc1', '2.1.5', '3.1.7', 'v3-alpine', 'latest']],
  [registry, 'base', ['v1.4', 'edge']],
  [otherEcr, 'team/app', ['stable']],
  [ecr, 'product/base', ['latest']],
];

let pushing: Promise<void> | undefined;
/** Pushes the images, once. */
async function havingImages(): Promise<void> {
  pushing ??= (async () => {
    for (const [there, repository, tags] of IMAGES)
      for (const tag of tags)
        await lab.push(await makeImage({ tag, layers: [50], sharedLayerBytes: 0 }), there, repository);
  })();
  await pushing;
}

const run = commandLine({ ...environment, HOME: lab.folder });

/** The text of an example with hosts that exist. */
async function example(name: string): Promise<string> {
  const text = await readFile(`test/fixtures/import/${name}`, 'utf8');
  return text.replaceAll('registry.example:5000', registry.registryHost).replaceAll('quay.example', ABROAD);
}

async function exampleFile(name: string): Promise<string> {
  const path = join(lab.folder, name);
  await writeFile(path, await example(name));
  return path;
}

let imports = 0;
/** Imports, with losses reported, and plans. Returns each destination without its host, those abroad with `abroad/`. */
async function planned(...args: readonly string[]): Promise<readonly string[]> {
  await havingImages();
  const imported = await run('import', ...args);
  expect(imported.code, imported.stderr).toBe(3);
  expect(
    imported.stderr.split('\n').filter((line) => !/^(?:(?:transship: exit code 3|not carried over): .+)?$/.test(line)),
  ).toEqual([]);
  expect(`${imported.stdout}${imported.stderr}`).not.toContain('planted');
  const rules = join(lab.folder, `imported-${++imports}.yaml`);
  await writeFile(rules, imported.stdout);
  const { code, stdout, stderr } = await run('sync', '-f', rules, '--dry-run', '--json');
  expect(code, stderr).toBe(0);
  const { items } = z
    .object({ items: z.array(z.object({ to: z.string(), outcome: z.string() })), faults: z.array(z.string()).max(0) })
    .parse(JSON.parse(stdout));
  expect(new Set(items.map(({ outcome }) => outcome))).toEqual(new Set(['planned']));
  return items
    .map(({ to }) => to.replace(`docker://${HOME}/`, '').replace(`docker://${ABROAD}/`, 'abroad/'))
    .toSorted();
}

/** `repository:tag` of each tag, in order. */
function all(repository: string, ...tags: readonly string[]): readonly string[] {
  return tags.map((tag) => `${repository}:${tag}`);
}

test('plans what skopeo sync copied', async () => {
  const file = await exampleFile('skopeo-sync.yaml');
  expect(await planned('skopeo-sync', file, '--all', '--to', `${HOME}/skopeo/`)).toEqual(
    [
      ...all('skopeo/app', 'v1', 'v2', 'v3', '1.1.0', '1.2.0', '1.3.0', 'latest', 'stable'),
      ...all('skopeo/tools', '1.0', '1.1', 'latest'),
      ...all('skopeo/worker', '1.0', 'latest'),
      ...all('skopeo/versions', '1.2.0'),
      ...all('skopeo/base', 'v1.4'),
    ].toSorted(),
  );
});

test('plans what regsync copied', async () => {
  expect(await planned('regsync', await exampleFile('regsync.yaml'))).toEqual(
    [
      ...all('regsync/app', 'stable'),
      ...all('regsync/tools', '1.1', 'latest'),
      ...all('regsync/versions', '1.2.0', '3.1.7'),
      ...all('regsync/all/team/app', 'latest'),
    ].toSorted(),
  );
});

test('plans what dregsy copied', async () => {
  expect(await planned('dregsy', await exampleFile('dregsy.yaml'))).toEqual(
    [
      ...all('dregsy/tools', '1.0', 'latest'),
      ...all('dregsy/versions', '1.2.0', 'v3-alpine', 'latest'),
      ...all('dregsy/team/app', '1.2.0', '1.3.0'),
      ...all('dregsy/renamed/app', 'v2'),
      ...all('dregsy/worker', '1.0', '2.0'),
    ].toSorted(),
  );
});

test('plans what image-syncer copied', async () => {
  const auth = await exampleFile('image-syncer.auth.yaml');
  expect(await planned('image-syncer', await exampleFile('image-syncer.images.yaml'), '--auth', auth)).toEqual(
    [
      ...all('image-syncer/tools', '1.0', '1.1', '2.0', 'latest'),
      ...all('image-syncer/app', 'v1', 'two', 'three'),
      ...all('image-syncer/worker', '1.0', 'latest'),
      ...all('abroad/image-syncer/worker', '1.0', 'latest'),
      ...all('image-syncer/versions', '1.2.0', '1.2.1-rc1'),
    ].toSorted(),
  );
});

test('plans the table of aws-ecr-mirror, however many pages it has', async () => {
  const TableName = 'mirrors';
  const client = new DynamoDB({ endpoint: dynamodb.endpoint });
  await client.createTable({
    TableName,
    BillingMode: 'PAY_PER_REQUEST',
    AttributeDefinitions: [{ AttributeName: 'Source', AttributeType: 'S' }],
    KeySchema: [{ AttributeName: 'Source', KeyType: 'HASH' }],
  });
  for (const Item of cuppettScan(await example('cuppett.json'))) await client.putItem({ TableName, Item });
  // a page ends after 1 MB
  for (const number of [2, 3, 4, 5])
    await client.putItem({
      TableName,
      Item: {
        Source: { S: `${registry.registryHost}/tools:${number}.0` },
        Destination: { S: ` ${HOME}/paged:${number}, ` },
        Comment: { S: 'x'.repeat(300_000) },
      },
    });
  client.destroy();
  const before = dynamodb.calls.length;
  const plan = await planned('cuppett', '--table', TableName);
  expect(dynamodb.calls.slice(before).map(({ action }) => action)).toEqual(['Scan', 'Scan']);
  expect(plan).toEqual(
    [
      ...all('cuppett/app', 'latest', 'v1'),
      ...all('cuppett/tools', '1.0'),
      ...all('abroad/cuppett/tools', '1.0'),
      ...all('abroad/cuppett/base', 'latest'),
      ...all('paged', '2'),
    ].toSorted(),
  );
});

test('reports an invalid request, and prints no rules', async () => {
  const missing = await run('import', 'cuppett', '--table', 'nowhere');
  expect(missing).toMatchObject({ code: 1, stdout: '' });
  expect(missing.stderr).toContain('read table nowhere: there is no such table');
  expect(await run('import', 'regsync', join(lab.folder, 'none.yaml'))).toMatchObject({ code: 1, stdout: '' });
  const unnamed = await run('import', 'skopeo-sync', await exampleFile('skopeo-sync.yaml'));
  expect(unnamed).toMatchObject({ code: 2, stdout: '' });
  expect(unnamed.stderr).toContain('--to <host/path>');
  const never = await run('import', 'regsync', await exampleFile('regsync.yaml'), '--schedule', '0 0 30 2 *');
  expect(never).toMatchObject({ code: 2, stdout: '' });
});
