import { PutObjectCommand } from '@aws-sdk/client-s3';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { APP, openLab } from '../support/interop-lab.ts';
import { attempt, run, skopeo, transship, type Environment } from '../support/interop-process.ts';
import { BUCKET } from '../support/local-s3.ts';

const lab = await openLab();
afterAll(() => lab[Symbol.asyncDispose]());
const { o, folder, registry } = lab;
const image = `${registry.host}/${APP}:v1`;
const archive = join(folder, 'good.tar');
await run(...transship(['backup', image, `oci-archive:${archive}`]), o);
const good = await readFile(archive);

/** Runs a command that must fail. Returns its one sentence. */
async function refused(code: 1 | 2, args: readonly string[], env: Environment = o.env): Promise<string> {
  const finished = await attempt(...transship([...args, '--quiet']), { ...o, env });
  expect(finished).toMatchObject({ code });
  expect(finished.stderr).toMatch(/^(?:transship|warning|failed): [^\n]+\n$/);
  expect(finished.stderr).not.toMatch(/at .*\.ts:\d+|X-Amz-|Signature=|local-secret|not-the-secret/i);
  return finished.stderr;
}

/** A folder of its own for the output of a command. */
async function emptyFolder(name: string): Promise<string> {
  const made = join(folder, name);
  await mkdir(made);
  return made;
}

describe('a missing source', () => {
  test.each([
    ['a tag', `${registry.host}/${APP}:v2`],
    ['a repository', `${registry.host}/no/such:v1`],
    ['a digest', `${registry.host}/${APP}@sha256:${'0'.repeat(64)}`],
  ])('%s is named, and nothing is left behind', async (_, from) => {
    const out = await emptyFolder(`missing-${from.replaceAll(/\W/g, '-')}`);
    const said = await refused(1, ['copy', from, `oci-archive:${out}/x.tar`]);
    expect(said).toContain('source: ');
    expect(said).toContain(from);
    expect(await readdir(out)).toEqual([]);
  });

  test('is also named by backup, of one tag and of a whole repository', async () => {
    const to = `s3://${BUCKET}/missing/{tag}.tar`;
    expect(await refused(1, ['backup', `${registry.host}/${APP}:v2`, to])).toContain(`${registry.host}/${APP}:v2`);
    expect(await refused(1, ['backup', `${registry.host}/no/such`, to])).toContain(`${registry.host}/no/such`);
    expect(await lab.bucketContents()).toEqual({ keys: [], uploads: [] });
  });

  test('in S3 is named by the key of the archive', async () => {
    const said = await refused(1, ['restore', `s3://${BUCKET}/no/such.tar`, `${registry.host}/restored:v1`]);
    expect(said).toContain(`s3://${BUCKET}/no/such.tar`);
  });

  test('is named by its bucket', async () => {
    const said = await refused(1, ['restore', 's3://no-such-bucket/a.tar', `${registry.host}/restored:v1`]);
    expect(said).toContain('no-such-bucket');
  });

  test('without a listener is named by its registry', async () => {
    // a port that was free a moment ago
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    server.close();
    await once(server, 'close');
    const said = await refused(1, ['copy', `127.0.0.1:${port}/app:v1`, `oci-archive:${folder}/x.tar`]);
    expect(said).toContain(`127.0.0.1:${port}`);
  });
});

describe('an incomplete archive', async () => {
  const turned = join(folder, 'turned.tar');
  const bad = Buffer.from(good);
  const middle = Math.floor(bad.byteLength / 2);
  bad.writeUInt8(bad.readUInt8(middle) ^ 1, middle);
  await writeFile(turned, bad);
  const cuts = { head: 700, manifests: 20_000, layer: Math.floor(good.byteLength / 2), end: good.byteLength - 1024 };

  test.each(Object.entries(cuts))('cut off in its %s is not restored, and no tag appears', async (where, bytes) => {
    const file = join(folder, `cut-${where}.tar`);
    await writeFile(file, good.subarray(0, bytes));
    const said = await refused(1, ['restore', `oci-archive:${file}`, `${registry.host}/cut/${where}:v1`]);
    expect(said).toContain(`cut-${where}.tar`);
    const answer = await fetch(`${registry.url}/v2/cut/${where}/manifests/v1`);
    await answer.body?.cancel();
    expect(answer.status).toBe(404);
  });

  test('with one flipped bit of a layer is not restored', async () => {
    await refused(1, ['restore', `oci-archive:${turned}`, `${registry.host}/turned:v1`]);
    const answer = await fetch(`${registry.url}/v2/turned/manifests/v1`);
    await answer.body?.cancel();
    expect(answer.status).toBe(404);
  });

  test('is reported as faulty by verify: 3', async () => {
    const { code, stdout } = await attempt(...transship(['verify', `oci-archive:${turned}`]), o);
    expect(stdout.toString()).toContain('FAULTY');
    expect(code).toBe(3);
  });
});

describe('a key that holds something else', () => {
  test('is not restored, and not overwritten by a backup', async () => {
    const [Key, Body] = ['notes.tar', 'no archive at all'];
    await lab.client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body }));
    expect(await refused(1, ['restore', `s3://${BUCKET}/${Key}`, `${registry.host}/notes:v1`])).toContain(Key);
    expect(await refused(1, ['backup', image, `s3://${BUCKET}/${Key}`])).toContain('--force');
    expect((await lab.object(Key)).toString()).toBe(Body);
  });
});

describe('wrong credentials', () => {
  test('for S3 are reported, not shown', async () => {
    const env = { ...o.env, AWS_SECRET_ACCESS_KEY: 'not-the-secret' };
    expect(await refused(1, ['backup', image, `s3://${BUCKET}/denied.tar`], env)).toContain('target: ');
    expect((await lab.bucketContents()).keys).not.toContain('denied.tar');
  });
});

describe('wrong usage', () => {
  test.each([
    ['a malformed reference', ['copy', 'Upper/CASE::tag', `oci-archive:${folder}/x.tar`]],
    ['an unknown transport', ['copy', 'ftp://host/app:v1', `oci-archive:${folder}/x.tar`]],
    ['a malformed digest', ['inspect', `${registry.host}/${APP}@sha256:12`]],
    ['malformed credentials', ['inspect', image, '--src-creds', 'nocolon']],
    ['an archive to back up', ['backup', `oci-archive:${archive}`, `s3://${BUCKET}/x/`]],
    ['an image of a registry to restore', ['restore', `docker://${image}`, `${registry.host}/x:v1`]],
  ])('%s: 2', async (_, args) => {
    await refused(2, args);
  });

  test.each([[['copy', image]], [['copy', image, 'a', 'b']], [['frobnicate']], [['copy', '--frobnicate', image, 'x']]])(
    'an invalid command line: 2, %j',
    async (args) => {
      const { code, stdout, stderr } = await attempt(...transship(args), o);
      expect({ code, stdout: stdout.toString() }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toContain('--help');
    },
  );
});

test('skopeo agrees that the archive that these tests damage was whole', async () => {
  await skopeo(['copy', '--all', `oci-archive:${archive}`, `dir:${join(folder, 'whole')}`], o);
});
