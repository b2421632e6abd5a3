import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { hexOf } from '../../worker/oci/digest.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { GREETING, rawManifest } from '../support/interop-image.ts';
import { APP, openLab, type Lab } from '../support/interop-lab.ts';
import { run, transship, type Environment } from '../support/interop-process.ts';

/** Settings under which podman needs no systemd, no overlay, no network and no limit raised: what a container of a CI has. */
async function podmanEnvironment(lab: Lab): Promise<Environment> {
  const containers = join(lab.folder, 'containers.conf');
  const storage = join(lab.folder, 'storage.conf');
  await writeFile(
    containers,
    `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`,
  );
  await writeFile(
    storage,
    `[storage]
driver = "vfs"
graphroot = ${JSON.stringify(join(lab.folder, 'graph'))}
runroot = ${JSON.stringify(join(lab.folder, 'run'))}
`,
  );
  return { ...lab.o.env, CONTAINERS_CONF: containers, CONTAINERS_STORAGE_CONF: storage };
}

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
    expect(await busybox('/bin/echo', 'as told')).toBe('as told');
    // what umoci deleted is gone, not only what it added there
    expect(await busybox('/bin/busybox', 'ls', '/srv')).toBe('data\ngreeting');
  });

  test('knows the loaded image by the config that the registry has for its platform', async () => {
    const manifest = await rawManifest(`docker://${lab.registry.host}/${APP}@${native.digest}`, lab.o);
    const { config } = JSON.parse(manifest.toString()) as { readonly config: Descriptor };
    expect(await podman('image', 'inspect', '--format', '{{.Id}}', name)).toBe(hexOf(config.digest));
  });
});
