// The bytes that commands report, beside those that the servers of the embedded stack received.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { openImage } from '../../worker/archive/reader.ts';
import { commandLine } from '../support/command-line.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, ecr, s3, bucket, environment } = lab.stack;
const home = join(lab.folder, 'home');
await mkdir(home);

const MIB = 1024 * 1024;

interface Bytes {
  readonly outcome: string;
  readonly bytesSent: number;
  readonly bytesReused: number;
  readonly bytesSkipped: number;
  readonly bytesToSend?: number;
  readonly resumed?: { readonly parts: number; readonly total: number };
}

const run = commandLine({ ...environment, HOME: home });

async function copied(from: string, to: string, ...flags: readonly string[]): Promise<Bytes> {
  const { stdout, stderr } = await run('copy', '--json', from, to, ...flags);
  expect(stdout, stderr).not.toBe('');
  return JSON.parse(stdout) as Bytes;
}

async function backedUp(from: string, to: string): Promise<readonly Bytes[]> {
  const { stdout, stderr } = await run('backup', '--json', from, to);
  expect(stdout, stderr).not.toBe('');
  return (JSON.parse(stdout) as { readonly items: readonly Bytes[] }).items;
}

/** Pushes an image whose one large layer fills the second of its archive's three parts. */
async function pushedLarge(name: string): Promise<string> {
  const image = await makeImage({ seed: name.length, platforms: ['linux/amd64'], layers: [20 * MIB] });
  await lab.push(image, registry, name);
  return at(registry, `${name}:v1`);
}

const at = (where: LocalRegistry, name: string): string => `docker://${where.registryHost}/${name}`;

/** Bytes of archives that the bucket received since `from`, without those of snapshots. */
function receivedSince(from: number): number {
  return s3.requests
    .slice(from)
    .filter(({ operation }) => operation === 'UploadPart' || operation === 'PutObject')
    .filter(({ key }) => !key.startsWith('snapshots/'))
    .reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
}

describe('a compressed backup', () => {
  test.each(['tar.gz', 'tar.zst'])('reports the bytes that were sent as .%s', async (ending) => {
    await lab.push(await makeImage({ seed: 2 }), registry, 'compressed/app');
    const before = s3.requests.length;
    const to = `s3://${bucket}/{tag}.${ending}`;
    const [item] = await backedUp(at(registry, 'compressed/app:v1'), to);
    expect(item).toMatchObject({ outcome: 'copied', bytesSent: receivedSince(before), bytesReused: 0 });
    expect(item?.bytesSent).toBeGreaterThan(100_000);
    const [again] = await backedUp(at(registry, 'compressed/app:v1'), to);
    expect(again).toMatchObject({ outcome: 'unchanged', bytesSent: 0, bytesSkipped: item?.bytesSent });
  });
});

describe('a backup that is resumed', () => {
  test('reports what it sent, what was there already, and of how many parts', async () => {
    const from = await pushedLarge('resumed/app');
    const to = `s3://${bucket}/resumed.tar`;
    // the marker and one part are stored
    s3.faults.add(
      { operation: 'UploadPart', key: 'resumed.tar', skip: 2, times: 2 },
      { kind: 'answer', status: 403, code: 'AccessDenied' },
    );
    const [failed] = await backedUp(from, to);
    expect(failed).toMatchObject({ outcome: 'failed', bytesSent: expect.any(Number) });
    expect(failed?.bytesSent).toBeGreaterThanOrEqual(8 * MIB);

    s3.faults.clear();
    const before = s3.requests.length;
    const { stdout, stderr } = await run('copy', '--json', from, to);
    const result = JSON.parse(stdout) as Bytes;
    const { size } = await lab.session().backends.bucket(bucket).stat('resumed.tar');
    expect(result).toMatchObject({ bytesSent: receivedSince(before), resumed: { parts: 1, total: 3 } });
    expect(result.bytesSent).toBe(size - 8 * MIB);
    expect(result.bytesReused).toBe(8 * MIB);
    expect(stderr).toContain('"type":"resumed"');
  });

  test('prints them for people, with one line for each image', async () => {
    const from = await pushedLarge('resumed/people');
    const to = `s3://${bucket}/people.tar`;
    s3.faults.add(
      { operation: 'UploadPart', key: 'people.tar', skip: 2, times: 2 },
      { kind: 'answer', status: 403, code: 'AccessDenied' },
    );
    const failed = await run('backup', from, to);
    expect(failed.stdout).toMatch(/^0 copied, 0 unchanged, 1 failed, [1-9]\d*\.\d+ MiB sent/m);
    s3.faults.clear();
    const { stdout, stderr } = await run('backup', from, to);
    expect(stdout).toMatch(/^1 copied, 0 unchanged, 0 failed, 12\.\d MiB sent, 8\.00 MiB reused in /m);
    expect(stdout).toMatch(/^resumed: 1 of 3 parts were there: docker:/m);
    expect(stderr).toContain(`resumed ${to}: 1 of 3 parts were there`);
  });

  test('counts a part twice that was sent twice', async () => {
    const from = await pushedLarge('twice/app');
    const before = s3.requests.length;
    s3.faults.add({ operation: 'UploadPart', key: 'twice.tar', skip: 1 }, { kind: 'lose-answer' });
    const { bytesSent } = await copied(from, `s3://${bucket}/twice.tar`);
    const { size } = await lab.session().backends.bucket(bucket).stat('twice.tar');
    expect(bytesSent).toBe(size + 8 * MIB);
    // the marker of the upload is not part of the archive
    expect(receivedSince(before) - bytesSent).toBeLessThan(100_000);
  });
});

describe('an archive of layers that the bucket has in another archive', () => {
  const recipe = { platforms: ['linux/amd64'], sharedLayerBytes: 0 };
  /** A part is 8 MiB: the layer fills one, whatever the size of the other layer. */
  const state = async (tag: string, other: number): Promise<MadeImage> =>
    makeImage({ ...recipe, seed: 77, layers: [other, 17 * MIB], tag });
  const first = state('v1', 1000);
  const moved = state('v1', 2000);

  async function expectGood(key: string, image: MadeImage): Promise<void> {
    await using archive = await openImage(lab.session().backends.bucket(bucket), key);
    await expectSameImage(image.content, archive, image.root);
  }

  test('copies the layer for a tag that moved, and verifies', async () => {
    await lab.push(await first, registry, 'moved/app');
    const from = at(registry, 'moved/app:v1');
    const key = 'moved/v1.tar';
    const to = `s3://${bucket}/${key}`;
    expect(await copied(from, to)).toMatchObject({ bytesReused: 0 });
    await lab.push(await moved, registry, 'moved/app');
    const before = s3.requests.length;
    const result = await copied(from, to);
    const { size } = await lab.session().backends.bucket(bucket).stat(key);
    expect(result).toMatchObject({ outcome: 'copied', bytesReused: 8 * MIB, bytesSent: size - 8 * MIB });
    expect(receivedSince(before) - result.bytesSent).toBeLessThan(100_000);
    await expectGood(key, await moved);
  });

  test('copies the layer from the archive of another tag that the same process wrote', async () => {
    const session = lab.session();
    await lab.push(await first, registry, 'two/app');
    await session.copy(at(registry, 'two/app:v1'), `s3://${bucket}/two/v1.tar`);
    const other = await state('v2', 3000);
    await lab.push(other, registry, 'two/app');
    const result = await session.copy(at(registry, 'two/app:v2'), `s3://${bucket}/two/v2.tar`);
    expect(result).toMatchObject({ bytesReused: 8 * MIB });
    await expectGood('two/v2.tar', other);
  });

  test.each<[string, Parameters<typeof s3.faults.add>[1]]>([
    ['is not allowed', { kind: 'answer', status: 403, code: 'AccessDenied' }],
    ['is not known', { kind: 'answer', status: 501, code: 'NotImplemented' }],
  ])('is sent where the copy %s, and the copy is tried once', async (_, fault) => {
    const name = fault.kind === 'answer' ? String(fault.status) : '';
    await lab.push(await first, registry, `refused/${name}`);
    const from = at(registry, `refused/${name}:v1`);
    const to = `s3://${bucket}/refused/${name}.tar`;
    await copied(from, to);
    await lab.push(await moved, registry, `refused/${name}`);
    s3.faults.add({ operation: 'UploadPartCopy' }, fault);
    expect(await copied(from, to)).toMatchObject({ outcome: 'copied', bytesReused: 0 });
    expect(s3.faults.pending).toBe(0);
    await expectGood(`refused/${name}.tar`, await moved);
  });
});

describe('a copy between registries', () => {
  /** Bytes of blobs and manifests that a registry received since `from`. */
  const pushedSince = (where: LocalRegistry, from: number): number =>
    where.requests
      .slice(from)
      .filter(({ method }) => method === 'PUT' || method === 'PATCH')
      .reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);

  test('reports the bytes that were sent, mounted and there already', async () => {
    await lab.push(await makeImage({ seed: 5 }), registry, 'counted/app');
    const from = at(registry, 'counted/app:v1');
    const before = ecr.requests.length;
    const first = await copied(from, at(ecr, 'counted/app:v1'));
    expect(first).toMatchObject({ bytesSent: pushedSince(ecr, before), bytesReused: 0, bytesSkipped: 0 });
    const again = await copied(from, at(ecr, 'counted/app:v1'), '--verify-target');
    expect(again).toMatchObject({ outcome: 'unchanged', bytesSent: 0, bytesReused: 0, bytesSkipped: first.bytesSent });
    // what was not requested is not counted
    const trusted = await copied(from, at(ecr, 'counted/app:v1'));
    expect(trusted).toMatchObject({ outcome: 'unchanged', bytesSent: 0, bytesReused: 0 });
    expect(trusted.bytesSkipped).toBeLessThan(10_000);
    const sister = await copied(from, at(registry, 'counted/sister:v1'));
    expect(sister.bytesReused).toBeGreaterThan(100_000);
    expect(sister.bytesSent + sister.bytesReused).toBe(first.bytesSent);
  });

  test('counts a layer twice that was sent twice', async () => {
    await lab.push(await makeImage({ seed: 6 }), registry, 'broken/app');
    const before = ecr.requests.length;
    ecr.faults.add({ operation: 'upload-put' }, { kind: 'lose-answer' });
    const { bytesSent } = await copied(at(registry, 'broken/app:v1'), at(ecr, 'broken/app:v1'));
    expect(ecr.faults.pending).toBe(0);
    expect(bytesSent).toBe(pushedSince(ecr, before));
  });
});

describe('a dry run', () => {
  test('reports what it would send, and never that something was sent', async () => {
    await lab.push(await makeImage({ seed: 7 }), registry, 'dry/app');
    const from = at(registry, 'dry/app:v1');
    const rules = join(lab.folder, 'dry.yaml');
    await writeFile(
      rules,
      `version: 1
rules:
  - { name: mirror, schedule: "@daily", mirror: { from: ${registry.registryHost}/dry/app, to: "${ecr.registryHost}/dry/{repository}" } }
  - { name: backup, schedule: "@daily", backup: { from: ${registry.registryHost}/dry/app, to: "s3://${bucket}/dry/{tag}.tar" } }
`,
    );
    for (const args of [
      ['sync', '-f', rules],
      ['copy', from, at(ecr, 'dry/app:v1')],
      ['copy', from, `s3://${bucket}/dry.tar`],
      ['copy', from, `s3://${bucket}/dry.tar.gz`],
      ['backup', from, `s3://${bucket}/dry/`],
    ]) {
      const { stdout, stderr } = await run(...args, '--dry-run');
      expect(stderr, args.join(' ')).not.toMatch(/^(?:copied|tagged) /m);
      expect(stdout, args.join(' ')).toMatch(/would send up to [1-9][\d.]* KiB/);
      expect(stdout, args.join(' ')).not.toMatch(/\bsent\b/);
    }
    const planned = await copied(from, `s3://${bucket}/dry.tar`, '--dry-run');
    const real = await copied(from, `s3://${bucket}/dry.tar`);
    expect(planned).toMatchObject({ outcome: 'planned', bytesSent: 0, bytesToSend: real.bytesSent });
    const mirrored = await copied(from, at(ecr, 'dry/one:v1'), '--dry-run');
    expect(mirrored.bytesToSend).toBe((await copied(from, at(ecr, 'dry/one:v1'))).bytesSent);
    const again = await copied(from, at(ecr, 'dry/one:v1'), '--dry-run');
    expect(again).toMatchObject({ bytesSent: 0, bytesToSend: 0 });
  });
});
