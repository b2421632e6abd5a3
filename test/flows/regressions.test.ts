import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { openFolderTarget } from '../../worker/archive/layout-folder.ts';
import { openImage } from '../../worker/archive/reader.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { backup } from '../../worker/images/backup.ts';
import { restore } from '../../worker/images/restore.ts';
import { readSettings, type Settings } from '../../worker/main/settings.ts';
import { connect } from '../../worker/main/wire.ts';
import { eventually } from '../support/eventually.ts';
import { addJson, makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, openLab } from '../support/lab.ts';
import { listenForTest } from '../support/listen-for-test.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
const { ecr, otherEcr, registry, bucket } = lab.stack;
afterAll(async () => lab[Symbol.asyncDispose]());

/** A registry that answers each path with this JSON, and everything else with 404. It is closed with the test. */
async function lyingRegistry(answers: Readonly<Record<string, object>>): Promise<string> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://registry').pathname;
    const answer = answers[path];
    response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? { errors: [{ code: 'NAME_UNKNOWN' }] }));
  });
  return listenForTest(server);
}

/** Two Windows images whose base layer is foreign in one and, since Microsoft's terms changed, an ordinary layer in the other. */
async function makeHalfForeign(): Promise<MadeImage> {
  const content = new MemoryContent();
  const base = content.add(MEDIA_TYPE.dockerLayerGzip, Buffer.from('the base layer of Windows'));
  const image = (release: string, mediaType: string) => {
    const config = addJson(content, MEDIA_TYPE.dockerConfig, { os: 'windows', architecture: 'amd64', release });
    const layers = [{ mediaType, digest: base.digest, size: base.size, urls: ['https://example.com/base'] }];
    const manifest = addJson(content, MEDIA_TYPE.dockerManifest, { schemaVersion: 2, config, layers });
    return { ...manifest, platform: { os: 'windows', architecture: 'amd64', 'os.version': release } };
  };
  const descriptor = addJson(content, MEDIA_TYPE.dockerList, {
    schemaVersion: 2,
    manifests: [
      image('10.0.17763', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'),
      image('10.0.20348', MEDIA_TYPE.dockerLayerGzip),
    ],
  });
  await content.tag('v1', descriptor, async function* () {});
  return { content, root: { descriptor, tags: ['v1'] } };
}

describe('a layer that is foreign in one image and ordinary in another', () => {
  test('is copied to a registry, without having to be sent again', async () => {
    const image = await makeHalfForeign();
    await lab.push(image, registry, 'half-foreign/source');
    const session = lab.session();
    const from = `docker://${registry.registryHost}/half-foreign/source:v1`;
    await session.copy(from, `docker://${ecr.registryHost}/half-foreign/target:v1`);
    expect(session.events.filter((event) => event.type === 'warning')).toEqual([]);
    await expectSameImage(image.content, lab.view(ecr, 'half-foreign/target'), image.root);
  });

  test('is in the archive', async () => {
    const image = await makeHalfForeign();
    await lab.push(image, registry, 'half-foreign/archived');
    const { backends, options } = lab.session();
    const from = `${registry.registryHost}/half-foreign/archived:v1`;
    const { items } = await backup({ from, to: `s3://${bucket}/half-foreign/{tag}.tar` }, backends, options);
    expect(items).toMatchObject([{ outcome: 'copied' }]);
    await using archive = await openImage(backends.bucket(bucket), 'half-foreign/v1.tar');
    await expectSameImage(image.content, archive, image.root);
  });
});

describe('names that a registry makes up', () => {
  test('never write a backup outside its folder', async () => {
    const evil = '../../escaped';
    const host = await lyingRegistry({
      '/v2/_catalog': { repositories: [evil, 'app'] },
      '/escaped/tags/list': { tags: ['v1'] },
      '/v2/app/tags/list': { tags: ['../../../escaped', 'v1'] },
    });
    const { backends, options } = lab.session();
    const folder = join(lab.folder, 'backups');
    const to = `oci-archive:${folder}/{repository}/{tag}.tar`;
    const { items, faults } = await backup({ from: `${host}/*`, to }, backends, options);
    expect(items.map((item) => item.to)).toEqual([`oci-archive:${folder}/app/v1.tar`]);
    expect(faults).toEqual([expect.stringContaining('"../../escaped"'), expect.stringContaining('"../../../escaped"')]);
    expect(await readdir(lab.folder)).not.toContain('escaped.tar');
  });
});

describe('a pattern', () => {
  test('is backed up although one of its repositories has no tags any more', async () => {
    const host = await lyingRegistry({
      '/v2/_catalog': { repositories: ['gone', 'there'] },
      '/v2/there/tags/list': { tags: ['v1'] },
    });
    const { backends, options } = lab.session();
    const { items, faults } = await backup({ from: `${host}/*`, to: `s3://${bucket}/gone/` }, backends, options);
    expect(items.map((item) => item.from)).toEqual([`docker://${host}/there:v1`]);
    expect(faults).toEqual([expect.stringContaining('gone')]);
  });
});

describe('settings of two repositories whose archives share a folder', () => {
  test('do not overwrite each other, and are not given to the other repository', async () => {
    const one = await makeImage({ seed: 71, tag: 'one' });
    const two = await makeImage({ seed: 72, tag: 'two' });
    await lab.push(one, ecr, 'shared-folder/one');
    await lab.push(two, ecr, 'shared-folder/two');
    await lab.client(ecr).applySettings('shared-folder/one', { tagMutability: 'IMMUTABLE' });
    const { backends, options } = lab.session();
    const to = `s3://${bucket}/shared-folder/{tag}.tar`;
    const { items, faults } = await backup({ from: `${ecr.registryHost}/shared-folder/*`, to }, backends, options);
    expect(items.map((item) => item.outcome)).toEqual(['copied', 'copied']);
    expect(faults).toEqual([expect.stringContaining('settings of shared-folder/two were not backed up')]);

    const back = lab.session();
    const host = `docker://${otherEcr.registryHost}`;
    const request = { from: `s3://${bucket}/shared-folder/`, to: host, trustNames: true };
    const restored = await restore(request, back.backends, back.options);
    expect(restored.items.map((item) => item.outcome)).toEqual(['copied', 'copied']);
    expect(await lab.client(otherEcr).settings('shared-folder/one')).toMatchObject({ tagMutability: 'IMMUTABLE' });
    expect(await lab.client(otherEcr).settings('shared-folder/two')).toMatchObject({ tagMutability: 'MUTABLE' });
    expect(restored.faults).toEqual([expect.stringContaining('settings of shared-folder/two were not restored')]);
  });
});

/** The work of another process: modules of its own, which share only the folder. Resolves to the tags it set. */
async function tagElsewhere(folder: string, image: MadeImage, tags: readonly string[]): Promise<void> {
  const module = (path: string): string => JSON.stringify(new URL(`../../worker/${path}`, import.meta.url).href);
  const code = `
    const { openFolderTarget } = await import(${module('archive/layout-folder.ts')});
    const { openFiles } = await import(${module('objects/files/store.ts')});
    const { workerData: { folder, descriptor, tags } } = await import('node:worker_threads');
    const target = await openFolderTarget(openFiles(folder));
    for (const tag of tags) await target.tag(tag, descriptor, async function* () {});`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
    workerData: { folder, descriptor: image.root.descriptor, tags },
  });
  const [exitCode] = (await once(worker, 'exit')) as [number];
  expect(exitCode).toBe(0);
}

describe('an OCI layout folder that several processes tag at once', () => {
  test('keeps the tags of all of them', async () => {
    const image = await makeImage({ seed: 73 });
    await lab.push(image, registry, 'crowded/app');
    const folder = join(lab.folder, 'crowded');
    const { copy, backends } = lab.session();
    await copy(`docker://${registry.registryHost}/crowded/app:v1`, `oci:${folder}:v1`);
    const tags = ['a', 'b', 'c'].map((name) => Array.from({ length: 15 }, (_, i) => `${name}${i}`));
    await Promise.all(tags.map((own) => tagElsewhere(folder, image, own)));
    const found: string[] = [];
    for await (const tag of (await openFolderTarget(backends.folder(folder))).tags()) found.push(tag);
    expect(found.sort()).toEqual(['v1', ...tags.flat()].sort());
    expect((await readdir(folder)).sort()).toEqual(['blobs', 'index.json', 'oci-layout']);
  });
});

describe('two archives that hold different images of one name', () => {
  test('do not overwrite each other, whichever is last; the others are restored', async () => {
    const { backends, options } = lab.session();
    const [old, current, other] = await Promise.all([75, 76, 77].map((seed) => makeImage({ seed })));
    const from = `${registry.registryHost}/rivals/app`;
    for (const [folder, image] of [
      ['monday', old],
      ['tuesday', current],
      ['tuesday/again', current],
    ] as const) {
      if (image !== undefined) await lab.push(image, registry, 'rivals/app');
      await backup({ from, to: `s3://${bucket}/rivals/${folder}/` }, backends, options);
    }
    if (other !== undefined) await lab.push(other, registry, 'rivals/other');
    await backup(
      { from: `${registry.registryHost}/rivals/other`, to: `s3://${bucket}/rivals/monday/` },
      backends,
      options,
    );

    const back = lab.session();
    const to = `docker://${otherEcr.registryHost}`;
    const all = await restore({ from: `s3://${bucket}/rivals/`, to }, back.backends, back.options);
    expect(all.faults).toEqual([expect.stringContaining('hold different images of that name')]);
    expect(all.items.map((item) => item.to)).toEqual([`${to}/rivals/other:v1`]);
    const one = await restore({ from: `s3://${bucket}/rivals/tuesday/`, to }, back.backends, back.options);
    expect(one.items.map((item) => item.outcome)).toEqual(['copied', 'unchanged']);
  });
});

describe('two backups of the same image to the same file at once', () => {
  test('both succeed, and leave one file', async () => {
    const image = await makeImage({ seed: 74 });
    await lab.push(image, registry, 'at-once/app');
    const folder = join(lab.folder, 'at-once');
    const run = async () => {
      const { backends, options } = lab.session();
      return backup(
        { from: `${registry.registryHost}/at-once/app:v1`, to: `oci-archive:${folder}/{tag}.tar` },
        backends,
        options,
      );
    };
    const runs = await Promise.all([run(), run(), run()]);
    expect(runs.flatMap(({ items }) => items.map((item) => item.failure?.message))).toEqual(runs.map(() => undefined));
    expect(await readdir(folder)).toEqual(['v1.tar']);
    await using archive = await openImage(lab.session().backends.folder(folder), 'v1.tar');
    await expectSameImage(image.content, archive, image.root);
  });
});

describe('a full disk', () => {
  /** Exit code and stderr of a copy whose outputs go to these places. */
  async function copyWith(stdout: 'ignore' | number, stderr: 'pipe' | number): Promise<readonly [unknown, string]> {
    const image = await makeImage({ seed: 78 });
    await lab.push(image, registry, 'full/app');
    const [from, to] = [`docker://${registry.registryHost}/full/app:v1`, `oci:${join(lab.folder, 'full')}`];
    const cli = fileURLToPath(new URL('../../worker/main/cli.ts', import.meta.url));
    const child = spawn(process.execPath, [cli, 'copy', from, to], {
      stdio: ['ignore', stdout, stderr],
    });
    const said = child.stderr === null ? '' : text(child.stderr);
    const [exitCode] = (await once(child, 'close')) as [unknown];
    return [exitCode, await said];
  }

  test.skipIf(process.platform !== 'linux')(
    'for the log does not stop a copy, and its result is still printed',
    async () => {
      await using full = await open('/dev/full', 'w');
      expect(await copyWith('ignore', full.fd)).toEqual([0, '']);
      expect(await copyWith(full.fd, 'pipe')).toEqual([1, 'transship: the result could not be written (ENOSPC)\n']);
    },
  );
});

/** Settings of a machine where this program keeps docker's credentials for every registry. */
async function helperSettings(name: string, script: string): Promise<Settings> {
  const folder = join(lab.folder, name);
  await mkdir(folder);
  await writeFile(join(folder, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const config = { auths: { 'registry.example.com': {} }, credsStore: name };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const path = process.env['PATH'];
  process.env['PATH'] = `${folder}:${path}`;
  onTestFinished(() => void (process.env['PATH'] = path));
  return readSettings({ HOME: folder, DOCKER_CONFIG: folder });
}

describe('a credential helper', () => {
  test('does not outlive the command when it never answers', async () => {
    const settings = await helperSettings('hang', 'echo $$ > "$(dirname "$0")/pid"; sleep 20; true');
    const stop = new AbortController();
    const backends = connect(settings, 'test', { report: () => undefined });
    const read = backends.registry('registry.example.com', 'source').repository('app').resolve('v1', stop);
    const pidFile = join(lab.folder, 'hang', 'pid');
    await eventually(async () => expect(await readFile(pidFile, 'utf8')).toMatch(/\d\n/));
    stop.abort();
    await failureOf(read, 'ABORTED');
    await backends[Symbol.asyncDispose]();
    const pid = Number(await readFile(pidFile, 'utf8'));
    await eventually(() => expect(isRunning(pid)).toBe(false));
  });

  test('is killed when it never stops writing', async () => {
    const settings = await helperSettings('flood', 'exec yes');
    await using backends = connect(settings, 'test', { report: () => undefined });
    const read = backends.registry('registry.example.com', 'source').repository('app').resolve('v1');
    expect((await failureOf(read, 'UNAUTHENTICATED')).message).toContain('more than 1048576 bytes');
  });
});

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
