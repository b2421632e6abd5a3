import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, expect, test } from 'vitest';
import { openS3 } from '../../worker/objects/s3/store.ts';
import { rawManifest } from '../support/interop-image.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { startMoto } from '../support/interop-moto.ts';
import { run, transship, transshipJson } from '../support/interop-process.ts';
import { BUCKET } from '../support/local-s3.ts';

const MIB = 1024 * 1024;
const PART_BYTES = 8 * MIB;

const lab = await openLab();
const moto = await startMoto(lab.o.env);
const client = new S3Client({
  endpoint: moto.endpoint,
  region: 'us-east-1',
  credentials: { accessKeyId: 'any', secretAccessKey: 'any' },
  forcePathStyle: true,
  responseChecksumValidation: 'WHEN_REQUIRED',
});
await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
afterAll(async () => {
  client.destroy();
  await moto[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});
const o = { env: { ...lab.o.env, AWS_ENDPOINT_URL_S3: moto.endpoint } };

test('an image is backed up to moto, found unchanged, verified and restored', async () => {
  const source = `${lab.registry.host}/${APP}:v1`;
  const archive = `s3://${BUCKET}/app/v1.tar`;
  const backup = async (): Promise<unknown> => transshipJson(['backup', source, archive], o);
  expect(await backup()).toMatchObject({ items: [{ outcome: 'copied' }] });
  expect(await backup()).toMatchObject({ items: [{ outcome: 'unchanged' }] });
  await run(...transship(['verify', archive]), o);
  const target = `${lab.registry.host}/restored:v1`;
  await run(...transship(['restore', archive, `docker://${target}`]), o);
  expect(await rawManifest(`docker://${target}`, o)).toEqual(await rawManifest(`docker://${source}`, o));
});

test('an interrupted upload to moto is resumed by a new process, though moto lists no CRC-32', async () => {
  const events: unknown[] = [];
  const content = Buffer.alloc(2.5 * PART_BYTES, 'interop');
  const begin = async (): Promise<Awaited<ReturnType<ReturnType<typeof openS3>['upload']>>> =>
    openS3({ bucket: BUCKET, client, report: (event) => events.push(event) }).upload('u', content.byteLength, {
      fingerprint: 'sha256:f',
      condition: { ifAbsent: true },
    });
  const part = (n: number): Uint8Array => content.subarray((n - 1) * PART_BYTES, n * PART_BYTES);
  await (await begin()).part(2, part(2));
  const again = await begin();
  expect([...again.done.keys()]).toEqual([2]);
  for (const n of [1, 3]) await again.part(n, part(n));
  expect(await again.commit()).toMatchObject({ size: content.byteLength });
  expect(events).toEqual([]);
});
