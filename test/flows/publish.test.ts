// Objects as artifacts and back, over the embedded stack: an S3 with versions, an ECR, a registry.
import { createHash } from 'node:crypto';
import { afterAll, describe, expect, test } from 'vitest';
import { extract } from '../../worker/images/extract.ts';
import { publish, type PublishRequest } from '../../worker/images/publish.ts';
import type { PublishResult } from '../../worker/images/publish-result.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { parseObjectPlace } from '../../worker/oci/object-place.ts';
import { parseReference, parseRepository } from '../../worker/oci/reference.ts';
import { seededBytes } from '../support/images.ts';
import { collect } from '../support/chunks.ts';
import { openLab, requestsDuring, type Session } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, s3, bucket } = lab.stack;

async function publishIn(
  session: Session,
  prefix: string,
  to: string,
  more: Partial<PublishRequest> = {},
): Promise<PublishResult> {
  const request = { from: parseObjectPlace(`s3://${bucket}/${prefix}`), to: parseRepository(to), ...more };
  return publish(request, session.backends, session.options);
}

async function s3During(work: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> {
  const before = new Set(s3.requests);
  await work();
  const counts: Record<string, number> = {};
  for (const { operation } of s3.requests.filter((request) => !before.has(request)))
    counts[operation] = (counts[operation] ?? 0) + 1;
  return counts;
}

/** Everything below a prefix, as far as a copy of it has to be equal. */
async function contents(store: ObjectStore, prefix: string): Promise<Readonly<Record<string, unknown>>> {
  const found: Record<string, unknown> = {};
  for await (const { key } of store.list(prefix)) {
    const { contentType, metadata } = await store.stat(key);
    const sha256 = createHash('sha256').update(await collect(await store.read(key))).digest('hex');
    found[key.slice(prefix.length)] = { contentType, metadata, sha256 };
  }
  return found;
}

describe('a thousand objects', async () => {
  test('x', { timeout: 100_000 }, async () => {
    const session = lab.session();
    const store = session.backends.bucket(bucket);
    let t = Date.now();
    const one = async (i: number) => store.write(`big/${i % 7}/ключ ${i} 日本`, Buffer.from(`object ${i % 900}`), { contentType: 'text/plain', metadata: { n: String(i) } });
    await Promise.all(Array.from({ length: 1000 }, (_, i) => one(i)));
    console.log('write', Date.now() - t); t = Date.now();
    const to = `${ecr.registryHost}/files`;
    let r: PublishResult | undefined;
    console.log(await s3During(async () => console.log(await requestsDuring(ecr, async () => (r = await publishIn(session, 'big/', to))))));
    console.log('publish', Date.now() - t, r); t = Date.now();
    console.log(await s3During(async () => console.log(await requestsDuring(ecr, async () => (r = await publishIn(lab.session(), 'big/', to))))));
    console.log('publish', Date.now() - t, r); t = Date.now();
    const e = await extract({ from: parseReference(to), to: parseObjectPlace(`s3://${bucket}/back`) }, session.backends, session.options);
    console.log(e, Date.now() - t); t = Date.now();
    expect(await contents(store, 'back/')).toEqual(await contents(store, 'big/'));
    const f = await extract({ from: parseReference(to), to: parseObjectPlace(`${lab.folder}/back`) }, session.backends, session.options);
    console.log(f, Date.now() - t);
  });
});
