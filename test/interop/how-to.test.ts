// Every command of docs/how-to, typed into bash as it is written, in order, against the embedded registries and S3.
import { execFile } from 'node:child_process';
import { globSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DynamoDB } from '@aws-sdk/client-dynamodb';
import { ECR, RepositoryNotFoundException } from '@aws-sdk/client-ecr';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { startProxy } from '../support/proxy.ts';
import { startWorker } from '../support/worker-process.ts';

/** Version 2 of the AWS CLI, as Debian installs it. Another may be before it in PATH. */
const AWS_CLI = '/usr/bin/aws';
const CLI = fileURLToPath(new URL('../../local/cli.ts', import.meta.url));
const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, dynamodb, ecr, otherEcr, registry, s3, environment } = lab.stack;

const run = promisify(execFile);
const image = await makeImage({ seed: 7, tag: 'v1', signed: true, layers: [500] });
const otherImage = await makeImage({ seed: 8, tag: 'v1', layers: [500] });

/** What a page needs beside an image in `$SOURCE`, and the state after it was typed. */
interface Page {
  /** Whether `$STORE` holds a backup. */
  readonly backedUp?: boolean;
  /** Whether a worker runs, as in the deployed system. */
  readonly worker?: boolean;
  /** Creates what the page assumes. Returns variables for its commands. */
  readonly prepare?: () => Promise<Readonly<Record<string, string>>>;
  /** A second round: what happens before it, and the first block that is typed again. */
  readonly again?: { readonly before: () => Promise<void>; readonly from: number };
  readonly check: (output: string) => Promise<void>;
}

const PAGES: Readonly<Record<string, Page>> = {
  'restore-yesterday': {
    backedUp: true,
    // the tag stands for another image by now
    prepare: async () => {
      await lab.push(otherImage, ecr, 'product/app');
      return {};
    },
    check: async () => isAt(ecr, 'product/app'),
  },
  'move-to-another-account': {
    again: {
      before: async () => {
        await isAt(otherEcr, 'product/app');
        // a tag that moves before the switch
        await lab.push(otherImage, ecr, 'product/app');
      },
      from: -1,
    },
    check: async () => isAt(otherEcr, 'product/app', otherImage),
  },
  'prove-it-to-an-auditor': {
    backedUp: true,
    // a drill deletes what it created
    check: async () => expect(await Array.fromAsync(lab.client(otherEcr).repositories('drill/'))).toEqual([]),
  },
  'air-gap': {
    // the second round carries what is new since the first
    again: { before: async () => lab.push(otherImage, ecr, 'product/app'), from: 2 },
    check: async () => isAt(otherEcr, 'product/app', otherImage),
  },
  'back-up-nightly': {
    worker: true,
    check: async (output) => expect(output).toMatch(/^run request-\S+ ended in .*, failed 0/m),
  },
  'mirror-docker-hub': {
    prepare: async () => {
      for (const [repository, tags] of [
        ['library/alpine', ['3.19', '3.20', 'edge']],
        ['library/node', ['22.1']],
      ] as const)
        for (const tag of tags) await lab.push(await makeImage({ tag, layers: [200] }), registry, repository);
      const endpoints = `${environment['TRANSSHIP_REGISTRY_ENDPOINTS']},docker.io=${registry.url}`;
      return { TRANSSHIP_REGISTRY_ENDPOINTS: endpoints };
    },
    check: async () => {
      const tags = await Array.fromAsync(lab.client(otherEcr).repository('hub/library/alpine').tags());
      expect(tags.filter((tag) => !tag.startsWith('sha256-')).toSorted()).toEqual(['3.19', '3.20']);
    },
  },
  'out-of-aws-on-push': { worker: true, check: async () => isAt(registry, 'mirrored/product/app') },
  'clean-up': {
    backedUp: true,
    prepare: async () => {
      await lab.push(await makeImage({ seed: 9, tag: 'pr-1', layers: [50] }), ecr, 'product/app');
      return {};
    },
    check: async (output) => {
      expect(output).toContain('pr-1');
      await isAt(ecr, 'product/app');
    },
  },
  'objects-in-ecr': {
    prepare: async () => {
      const client = clientOf(s3);
      for (const key of ['contracts/a.txt', 'contracts/b.txt'])
        await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: key }));
      client.destroy();
      return { OBJECTS: `s3://${bucket}/contracts/` };
    },
    check: async (output) => expect(output).toMatch(/unchanged/),
  },
  'behind-a-proxy': {
    prepare: async () => {
      await lab.push(image, registry, 'product/app');
      const proxy = await startProxy({ to: registry.host });
      onTestFinished(async () => {
        expect(proxy.lines.join('\n')).toContain('hub.internal');
        await proxy[Symbol.asyncDispose]();
      });
      return {
        PROXY: proxy.url.href,
        HUB: 'hub.example',
        TRANSSHIP_REGISTRY_ENDPOINTS: 'hub.example=http://hub.internal',
      };
    },
    check: async (output) => expect(output).toMatch(/^whole /m),
  },
  'minio-or-ceph': {
    prepare: async () => ({ S3_URL: environment['AWS_ENDPOINT_URL_S3'] ?? '' }),
    check: async () => isAt(otherEcr, 'product/app'),
  },
  'from-another-tool': {
    prepare: async () => {
      await lab.push(image, registry, 'team/app');
      return { TABLE: await tableOfMirrors() };
    },
    check: async () => {
      await isAt(otherEcr, 'from-regsync/app');
      await isAt(otherEcr, 'from-skopeo/app');
    },
  },
};

async function isAt(where: LocalRegistry, repository: string, { root }: MadeImage = image): Promise<void> {
  const { digest } = await lab.view(where, repository).resolve('v1');
  expect(digest).toBe(root.descriptor.digest);
}

/** Deletes what an earlier page copied to the other account, so that pages do not depend on their order. */
async function removeCopies(): Promise<void> {
  const client = new ECR({ endpoint: otherEcr.url, region: 'eu-west-1' });
  await client.deleteRepository({ repositoryName: 'product/app', force: true }).catch((error: unknown) => {
    if (!(error instanceof RepositoryNotFoundException)) throw error;
  });
  client.destroy();
}

/** A table in the format of aws-ecr-mirror, with one image. */
async function tableOfMirrors(): Promise<string> {
  const client = new DynamoDB({ endpoint: dynamodb.endpoint });
  await client.createTable({
    TableName: 'mirrors',
    BillingMode: 'PAY_PER_REQUEST',
    AttributeDefinitions: [{ AttributeName: 'Source', AttributeType: 'S' }],
    KeySchema: [{ AttributeName: 'Source', KeyType: 'HASH' }],
  });
  const Item = { Source: { S: 'alpine:3.20' }, Destination: { S: `${otherEcr.registryHost}/alpine:3.20` } };
  await client.putItem({ TableName: 'mirrors', Item });
  client.destroy();
  return 'mirrors';
}

test('every page of docs/how-to has a test', () => {
  expect(
    globSync('docs/how-to/*.md')
      .map((file) => basename(file, '.md'))
      .toSorted(),
  ).toEqual(Object.keys(PAGES).toSorted());
});

test.each(Object.entries(PAGES))('docs/how-to/%s.md works as written', { timeout: 120_000 }, async (name, page) => {
  const folder = await mkdtemp(join(lab.folder, 'how-to-'));
  await mkdir(join(folder, 'bin'));
  const script = `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`;
  await writeFile(join(folder, 'bin', 'transship'), script, { mode: 0o755 });
  await symlink(AWS_CLI, join(folder, 'bin', 'aws'));
  await mkdir(join(folder, '.aws'));
  const { AWS_ACCESS_KEY_ID: id = '', AWS_SECRET_ACCESS_KEY: secret = '' } = environment;
  const profile = `[minio]\naws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`;
  await writeFile(join(folder, '.aws', 'credentials'), profile);
  await removeCopies();
  await lab.push(image, ecr, 'product/app');
  const env = {
    ...environment,
    HOME: folder,
    PATH: `${join(folder, 'bin')}:${process.env['PATH'] ?? ''}`,
    BUCKET: bucket,
    STORE: `store:s3://${bucket}/${name}/`,
    SOURCE: ecr.registryHost,
    OTHER: otherEcr.registryHost,
    MIRROR: otherEcr.registryHost,
    TARGET: otherEcr.registryHost,
    HUB: registry.host,
    WHEN: new Date().toISOString().slice(0, 10),
  };
  const type = async (commands: string, more: Readonly<Record<string, string>> = {}): Promise<string> => {
    const o = { cwd: folder, env: { ...env, ...more } };
    return (await run('bash', ['--norc', '-euo', 'pipefail', '-c', commands], o)).stdout;
  };
  if (page.backedUp === true) await type('transship backup $SOURCE $STORE');
  const variables = (await page.prepare?.()) ?? {};
  await using worker = page.worker === true ? startWorker(environment) : undefined;
  const text = await readFile(new URL(`../../docs/how-to/${name}.md`, import.meta.url), 'utf8');
  const blocks = blocksOf(text, 'sh');
  expect(blocks.length).toBeGreaterThan(1);
  // in one shell, because a later block may need the variables of an earlier one
  const output = await type(blocks.join('\n'), variables);
  if (page.again !== undefined) {
    await page.again.before();
    await type(blocks.slice(page.again.from).join('\n'), variables);
  }
  for (const line of blocksOf(text, 'crontab')) {
    const command = line.replace(/^[*0-9 ]+\S+\/(?=transship )/, '').replaceAll(/\b(?=(?:SOURCE|STORE)\b)/g, '$');
    // cron sends by mail what a command prints
    expect(await type(command, variables)).toBe('');
  }
  expect(worker?.stderr ?? '').toBe('');
  await page.check(output);
});

function blocksOf(text: string, language: string): readonly string[] {
  const blocks = text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'));
  return [...blocks].map(([, block = '']) => block);
}
