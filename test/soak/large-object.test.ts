// An object of 2 GiB through processes of their own: published, left alone, extracted. TRANSSHIP_SOAK_GIB=… for another size.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import type { Bytes } from '../../worker/content/content.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { seededBytes } from '../support/images.ts';
import { openLab, requestsDuring } from '../support/lab.ts';

const MIB = 1024 * 1024;
const GIB = Number(process.env['TRANSSHIP_SOAK_GIB'] ?? 2);
const CLI = fileURLToPath(new URL('../../local/cli.ts', import.meta.url));

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, bucket, environment } = lab.stack;

interface Ended {
  readonly result: { readonly outcome: string; readonly bytesSent?: number; readonly bytesWritten?: number };
  readonly seconds: number;
  readonly peakMib: number;
}

/** Runs the program; `peakMib` is its highest memory use. */
async function run(...args: readonly string[]): Promise<Ended> {
  const startedMs = systemClock.now();
  const env = { ...environment, PATH: process.env['PATH'] ?? '', HOME: lab.folder, AWS_EC2_METADATA_DISABLED: 'true' };
  const child = spawn(process.execPath, [CLI, ...args, '--json'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let peakMib = 0;
  const looking = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8');
      peakMib = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1024;
    } catch {
      // it has ended
    }
  }, 100);
  const [stdout] = await Promise.all([text(child.stdout), once(child, 'close')]);
  clearInterval(looking);
  const seconds = (systemClock.now() - startedMs) / 1000;
  const result = JSON.parse(stdout) as Ended['result'];
  process.stdout.write(`${args[0]}: ${seconds.toFixed(1)} s, ${peakMib.toFixed(0)} MiB at most, ${stdout}\n`);
  return { result, seconds, peakMib };
}

test('an object of 2 GiB is published once and extracted, in memory that does not depend on its size', async () => {
  const store = lab.session().backends.bucket(bucket);
  const block = Buffer.from(seededBytes('block', MIB));
  const body = async function* (): Bytes {
    for (let i = 0; i < GIB * 1024; i++) {
      const chunk = Buffer.from(block);
      chunk.writeUInt32BE(i);
      yield chunk;
    }
  };
  await store.stream('models/large.bin', body(), { contentType: 'application/x-model' });
  const [from, to] = [`s3://${bucket}/models/`, `docker://${ecr.registryHost}/models`];
  const first = await run('publish', from, to);
  expect(first.result).toMatchObject({ outcome: 'published' });
  expect(first.result.bytesSent).toBeGreaterThanOrEqual(GIB * 1024 * MIB);
  expect(first.peakMib).toBeLessThan(400);
  const asked = await requestsDuring(ecr, async () => {
    expect((await run('publish', from, to)).result).toMatchObject({ outcome: 'unchanged', bytesSent: 0 });
  });
  expect(asked['upload-put']).toBeUndefined();
  const back = await run('extract', to, `s3://${bucket}/back/`);
  expect(back.result.bytesWritten).toBe(GIB * 1024 * MIB);
  expect(back.peakMib).toBeLessThan(400);
  expect(await run('extract', to, `s3://${bucket}/back/`)).toMatchObject({ result: { outcome: 'unchanged' } });
});
