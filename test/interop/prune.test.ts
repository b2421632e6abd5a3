// Debian's docker-registry, and the embedded ECR, after `transship prune`, read by skopeo.
import { ECRClient, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { startRegistry, type LocalRegistry } from '../../local/registry/registry.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { copy } from '../../worker/copy/copy.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { openRegistry } from '../../worker/registry/registry.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { addJson } from '../support/images.ts';
import { pushImage } from '../support/interop-image.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { attempt, run, skopeo, transship, transshipJson, type Finished } from '../support/interop-process.ts';
import { startDockerRegistry } from '../support/interop-registry.ts';

const lab = await openLab({ dataBytes: 1000 });
afterAll(() => lab[Symbol.asyncDispose]());
const { o, image, folder, registry } = lab;

interface Document {
  readonly plan: { readonly totals: { readonly delete: number } };
  readonly result: {
    readonly deleted: number;
    readonly failures: readonly { readonly failure: { readonly message: string } }[];
  };
}

/** Pushes an index of two images with creation times. All images share a base layer. */
async function pushDated(
  host: string,
  name: string,
  tags: readonly string[],
  created: string,
): Promise<readonly Descriptor[]> {
  const content = new MemoryContent();
  const base = content.add(MEDIA_TYPE.ociLayer, Buffer.from('shared by all'));
  const images: Descriptor[] = [];
  for (const architecture of ['amd64', 'arm64']) {
    const layer = content.add(MEDIA_TYPE.ociLayer, Buffer.from(`${created} ${architecture}`));
    const rootfs = { type: 'layers', diff_ids: [base.digest, layer.digest] };
    const config = content.add(
      MEDIA_TYPE.ociConfig,
      Buffer.from(JSON.stringify({ created, architecture, os: 'linux', rootfs })),
    );
    const manifest = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [base, layer] });
    images.push({ ...manifest, platform: { os: 'linux', architecture } });
  }
  const index = addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests: images });
  await using client = openRegistry(host, { side: 'target', credentials: async () => undefined, version: 'test' });
  await copy(content, client.repository(name), [{ descriptor: index, tags }]);
  return [index, ...images];
}

const tagsOf = async (repository: string): Promise<unknown> => {
  const listed = JSON.parse((await skopeo(['list-tags', `docker://${repository}`], o)).toString()) as {
    Tags: string[];
  };
  return listed.Tags.toSorted();
};

const isThere = async (reference: string): Promise<boolean> => {
  const { code } = await attempt(
    'skopeo',
    ['--insecure-policy', 'inspect', '--raw', '--tls-verify=false', `docker://${reference}`],
    o,
  );
  return code === 0;
};

const prune = async (...args: readonly string[]): Promise<Finished> => attempt(...transship(['prune', ...args]), o);

describe('prune of docker-registry', async () => {
  const repository = `${registry.host}/prune/app`;
  await pushImage(image, repository, o);
  await pushDated(registry.host, 'prune/app', ['prod-1'], '2025-01-01T00:00:00Z');
  const old = await pushDated(registry.host, 'prune/app', ['b2'], '2025-02-01T00:00:00Z');
  const recent = await pushDated(registry.host, 'prune/app', ['b3', 'candidate'], '2025-03-01T00:00:00Z');

  test('keeps the newest and what keepTags names, and leaves nothing without a tag', async () => {
    const policy = ['--keep-last', '2', '--keep-tags', 'prod-*', '--yes'];
    const { result } = await transshipJson<Document>(['prune', repository, ...policy], o);
    expect(result).toMatchObject({ deleted: 3, failures: [] });
    expect(await tagsOf(repository)).toEqual(
      ['b3', 'candidate', 'prod-1', 'v1', image.signatureTag, image.referrersTag].toSorted(),
    );
    for (const { digest } of old) expect(await isThere(`${repository}@${digest}`)).toBe(false);
    const again = await transshipJson<Document>(['prune', repository, ...policy], o);
    expect(again.plan.totals.delete).toBe(0);
  });

  test('leaves the kept images whole', async () => {
    for (const tag of ['b3', 'prod-1', 'v1'])
      await skopeo(['copy', '--all', `docker://${repository}:${tag}`, `dir:${join(folder, `kept-${tag}`)}`], o);
    expect(await isThere(`${repository}:${image.signatureTag}`)).toBe(true);
    expect(await isThere(`${repository}@${image.sbom.digest}`)).toBe(true);
  });

  test('reports that it cannot remove one tag of two, and touches neither', async () => {
    const { code, stdout } = await prune(repository, '--delete-tags', 'candidate', '--yes');
    expect(code).toBe(1);
    expect(stdout.toString()).toMatch(/remove the tag .*:candidate: .*; tags alone cannot be deleted there/);
    expect(await isThere(`${repository}:candidate`)).toBe(true);
    await skopeo(['copy', '--all', `docker://${repository}@${recent[0]?.digest}`, `dir:${join(folder, 'recent')}`], o);
  });

  test('deletes the signature, the SBOM and the list of referrers with their image', async () => {
    await run(...transship(['prune', repository, '--delete-tags', 'v1', '--yes']), o);
    expect(await tagsOf(repository)).toEqual(['b3', 'candidate', 'prod-1']);
    for (const { digest } of [image.root, ...image.images, image.signature, image.sbom, image.referrers])
      expect(await isThere(`${repository}@${digest}`)).toBe(false);
  });

  test('names the setting where deletion is not enabled', async () => {
    await using closed = await startDockerRegistry({ folder: join(folder, 'closed'), env: o.env, deletes: false });
    await pushDated(closed.host, 'app', ['a'], '2025-01-01T00:00:00Z');
    await pushDated(closed.host, 'app', ['b'], '2025-02-01T00:00:00Z');
    const { code, stdout } = await prune(`${closed.host}/app`, '--keep-last', '1', '--yes');
    expect(code).toBe(1);
    expect(stdout.toString()).toContain('REGISTRY_STORAGE_DELETE_ENABLED=true');
    expect(await tagsOf(`${closed.host}/app`)).toEqual(['a', 'b']);
  });
});

describe('prune of the embedded ECR', async () => {
  let daysAgo = 10;
  const clock = { ...systemClock, now: () => systemClock.now() - daysAgo * 24 * 60 * 60 * 1000 };
  const options = { mode: 'ecr', folder: join(folder, 'ecr'), account: '111111111111', region: 'us-east-1' } as const;
  const ecr = await startRegistry({ ...options, clock });
  afterAll(() => ecr.close());
  const env = {
    ...o.env,
    AWS_ENDPOINT_URL_ECR: ecr.url,
    TRANSSHIP_REGISTRY_ENDPOINTS: `${ecr.registryHost}=${ecr.url}`,
  };
  const layout = join(folder, 'layout-of-tags');
  for (const tag of ['prod-1', 'b2', 'b3', 'v1']) {
    // each is another image
    await run('umoci', ['init', '--layout', `${layout}-${tag}`], o);
    await run('umoci', ['new', '--image', `${layout}-${tag}:x`], o);
    await run('umoci', ['config', '--image', `${layout}-${tag}:x`, `--config.label=tag=${tag}`], o);
    await run(...transship(['copy', `oci:${layout}-${tag}:x`, `docker://${ecr.registryHost}/app:${tag}`]), { env });
  }
  await run(...transship(['copy', `${registry.host}/${APP}:v1`, `${ecr.registryHost}/app:v1`]), { env });
  daysAgo = 0;

  test('deletes untagged and old images, and leaves the kept ones whole', async () => {
    const policy = ['--keep-last', '2', '--keep-tags', 'prod-*', '--untagged-after-days', '1', '--yes'];
    const place = `${ecr.registryHost}/app`;
    const { result } = await transshipJson<Document>(['prune', place, ...policy], { env });
    // b2, and the previous v1
    expect(result).toMatchObject({ deleted: 2, failures: [] });
    const credentials = await passwordOf(ecr);
    for (const tag of ['prod-1', 'b3', 'v1']) {
      const from = `docker://${ecr.host}/app:${tag}`;
      await skopeo(['copy', '--all', `--src-creds=${credentials}`, from, `dir:${join(folder, `ecr-${tag}`)}`], o);
    }
    const again = await transshipJson<Document>(['prune', place, ...policy], { env });
    expect(again.plan.totals.delete).toBe(0);
  });
});

async function passwordOf(ecr: LocalRegistry): Promise<string> {
  const client = new ECRClient({
    endpoint: ecr.url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local-secret' },
  });
  try {
    const { authorizationData } = await client.send(new GetAuthorizationTokenCommand({}));
    return Buffer.from(authorizationData?.[0]?.authorizationToken ?? '', 'base64').toString();
  } finally {
    client.destroy();
  }
}
