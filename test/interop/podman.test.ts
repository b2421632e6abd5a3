import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { hexOf } from '../../worker/oci/digest.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { GREETING, rawManifest } from '../support/interop-image.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { podmanEnvironment } from '../support/interop-podman.ts';
import { run, transship } from '../support/interop-process.ts';

describe('podman', async () => {
  const lab = await openLab();
  afterAll(() => lab[Symbol.asyncDispose]());
  const env = await podmanEnvironment(lab);
  const podman = async (...args: readonly string[]): Promise<string> =>
    (await run('podman', args, { env })).toString().trim();
  const busybox = async (...args: readonly string[]): Promise<string> =>
    podman('run', '--rm', '--pull=never', '--network=none', name, ...args);
  const [native] = lab.image.images as [Descriptor];
  const name = `${lab.registry.host}/${APP}:v1`;
  const file = join(lab.folder, 'all.tar');
  await run(...transship(['backup', name, `oci-archive:${file}`]), lab.o);
  const loaded = await podman('load', '--input', file);

  test('loads an archive of every platform under its name, and runs it', async () => {
    expect(loaded).toContain(name);
    expect(await busybox()).toBe(GREETING);
    expect(await busybox('/bin/echo', 'as asked')).toBe('as asked');
    // files that umoci deleted are gone, and files that it added are there
    expect(await busybox('/bin/busybox', 'ls', '/srv')).toBe('data\ngreeting');
  });

  test('knows the loaded image by the config that the registry has for its platform', async () => {
    const manifest = await rawManifest(`docker://${lab.registry.host}/${APP}@${native.digest}`, lab.o);
    const { config } = JSON.parse(manifest.toString()) as { readonly config: Descriptor };
    expect(await podman('image', 'inspect', '--format', '{{.Id}}', name)).toBe(hexOf(config.digest));
  });
});
