import { readdir, readFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { digestOf } from '../../worker/oci/digest.ts';
import { rawManifest } from '../support/interop-image.ts';
import { startGate } from '../support/interop-gate.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { attempt, run, start, succeeded, transship } from '../support/interop-process.ts';
import { BUCKET } from '../support/local-s3.ts';

const MIB = 1024 * 1024;
/** The size of every part except the last: what the store chooses for an archive of this size. */
const PART_BYTES = 8 * MIB;
const LAYER_BYTES = 72 * MIB;
const AN_HOUR_MS = 3_600_000;

const lab = await openLab({ dataBytes: LAYER_BYTES });
const gate = await startGate(lab.registry.host);
afterAll(async () => {
  await gate[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});
afterEach(() => {
  gate.open();
  lab.s3.faults.clear();
});
const { o, image, folder, s3 } = lab;
const source = `${gate.host}/${APP}:v1`;

/** Backs up without interruption. Returns the archive. */
async function uninterrupted(name: string): Promise<Buffer> {
  const file = join(folder, `${name}.tar`);
  await run(...transship(['backup', source, `oci-archive:${file}`, '--quiet']), o);
  return readFile(file);
}

describe('a backup to S3 killed in the middle of a layer', async () => {
  const key = 'killed/v1.tar';
  const expected = await uninterrupted('expected-s3');
  /** Bytes of each part that the store received since, of the archive or of the marker of the upload. */
  const stored = (from: number): readonly number[] =>
    s3.requests
      .slice(from)
      .filter(({ operation, status }) => operation === 'UploadPart' && status === 200)
      .map(({ receivedBytes }) => receivedBytes);
  const whole = (parts: readonly number[]): number => parts.filter((bytes) => bytes === PART_BYTES).length;
  const partsKept = 4;
  const before = s3.requests.length;
  {
    // the first marks the upload as ours
    s3.faults.add({ operation: 'UploadPart', skip: 1 + partsKept, times: Infinity }, { kind: 'delay', ms: AN_HOUR_MS });
    await using killed = start(...transship(['backup', source, `s3://${BUCKET}/${key}`]), o);
    await killed.until(
      vi.waitFor(() => expect(whole(stored(before))).toBe(partsKept), { timeout: 60_000, interval: 20 }),
    );
    killed.kill('SIGKILL');
    expect((await killed.finished).signal).toBe('SIGKILL');
  }
  const left = await lab.bucketContents();
  s3.faults.clear();
  const again = s3.requests.length;
  const resumed = await attempt(...transship(['backup', source, `s3://${BUCKET}/${key}`]), o);

  test('shows nothing under its key, and keeps the upload', () => {
    expect(left).toEqual({ keys: [], uploads: [key] });
  });

  test('sends no stored part again', () => {
    succeeded(resumed);
    const sentBytes = stored(again).reduce((sum, bytes) => sum + bytes, 0);
    expect(sentBytes).toBe(expected.byteLength - partsKept * PART_BYTES);
  });

  test('ends in the bytes of an uninterrupted backup, and in nothing else but its snapshot', async () => {
    succeeded(resumed);
    expect((await lab.object(key)).equals(expected)).toBe(true);
    const snapshot: unknown = expect.stringMatching(/^killed\/snapshots\/[^/]+\.json\.zst$/);
    expect(await lab.bucketContents()).toEqual({ keys: [snapshot, key], uploads: [] });
  });
});

test('a backup to a file killed in the middle of a layer shows no file, and ends in the same bytes', async () => {
  const expected = await uninterrupted('expected-file');
  const target = join(folder, 'killed');
  await mkdir(target);
  const command = transship(['backup', source, `oci-archive:${target}/v1.tar`]);
  const closed = gate.closeAfter(LAYER_BYTES / 2);
  {
    await using killed = start(...command, o);
    await killed.until(closed);
    killed.kill('SIGKILL');
    await killed.finished;
  }
  expect(await readdir(target)).not.toContain('v1.tar');
  gate.open();
  await run(...command, o);
  expect(await readdir(target)).toEqual(['snapshots', 'v1.tar']);
  expect((await readFile(join(target, 'v1.tar'))).equals(expected)).toBe(true);
});

test('a mirror killed in the middle of a layer shows no tag, and resumes', async () => {
  const target = await lab.startRegistry('killed-mirror');
  const command = transship(['copy', source, `${target.host}/${APP}:v1`]);
  const closed = gate.closeAfter(LAYER_BYTES / 2);
  {
    await using killed = start(...command, o);
    await killed.until(closed);
    killed.kill('SIGKILL');
    await killed.finished;
  }
  const tags = await fetch(`${target.url}/v2/${APP}/manifests/v1`);
  await tags.body?.cancel();
  expect(tags.status).toBe(404);
  gate.open();
  await run(...command, o);
  expect(digestOf(await rawManifest(`docker://${target.host}/${APP}:v1`, o))).toBe(image.root.digest);
});

describe.each(['SIGINT', 'SIGTERM'] as const)('%s in the middle of a layer', (signal) => {
  const interrupted = async (key: string, times: number): Promise<void> => {
    const closed = gate.closeAfter(LAYER_BYTES / 2);
    await using stopped = start(...transship(['backup', source, `s3://${BUCKET}/${key}`, '--quiet']), o);
    await stopped.until(closed);
    for (let n = 0; n < times; n++) {
      stopped.kill(signal);
      await turn();
    }
    const ended = await stopped.finished;
    expect({ stdout: ended.stdout.toString(), stderr: ended.stderr }).toEqual({
      stdout: '',
      stderr: `transship: stopped by ${signal}; run the same command again to go on\n`,
    });
    // a signal that arrives while Node is exiting kills it, as it would any program
    expect(times === 1 ? [130] : [130, signal]).toContain(ended.code ?? ended.signal);
    const { keys, uploads } = await lab.bucketContents();
    expect(keys).not.toContain(key);
    expect(uploads).toContain(key);
  };

  test('ends the program with 130 and advice to run it again', async () => {
    await interrupted(`${signal}/once.tar`, 1);
  });

  // Ctrl-C reaches the program from the terminal, and again from npx or the launcher, which forward the signal
  test('has the same effect when it arrives several times at once', async () => {
    await interrupted(`${signal}/again.tar`, 3);
  });
});
