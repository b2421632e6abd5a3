import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { startRegistry, type LocalRegistry, type OciServerOptions } from '../../registry/registry.ts';
import { RawRegistry } from '../../../test/support/raw-registry.ts';

export let folder: string;
export let registry: LocalRegistry;
export let raw: RawRegistry;

/** Starts a registry before each test of a file, and closes it after. */
export function useRegistry(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'registry-'));
    registry = await startRegistry({ folder, mode: 'oci' });
    raw = new RawRegistry(registry.url);
  });

  afterEach(async () => {
    await registry.close();
    await rm(folder, { recursive: true });
  });
}

/** Restarts the registry on the same folder, with other options. */
export async function restart(options: Omit<OciServerOptions, 'folder' | 'mode'>): Promise<void> {
  await registry.close();
  registry = await startRegistry({ folder, mode: 'oci', ...options });
  raw = new RawRegistry(registry.url);
}
