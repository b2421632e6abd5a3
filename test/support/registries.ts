import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  startRegistry,
  type EcrServerOptions,
  type LocalRegistry,
  type OciServerOptions,
} from '../../local/registry/registry.ts';
import { openRegistry, type RegistryClient, type RegistryOptions } from '../../worker/registry/registry.ts';

/** A registry of its own for one test, and clients of it that close with it. */
export interface RegistryUnderTest extends AsyncDisposable {
  readonly local: LocalRegistry;
  /** A new client, without anything that others learned. */
  client(options?: Partial<RegistryOptions>): RegistryClient;
}

type ServerOptions = Omit<OciServerOptions, 'folder'> | Omit<EcrServerOptions, 'folder'>;

/** Starts a registry in a folder of its own. The SDK finds an ECR of the test through the environment, which is set here. */
export async function registryUnderTest(options: ServerOptions): Promise<RegistryUnderTest> {
  await using starting = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'registry-'));
  starting.defer(async () => rm(folder, { recursive: true }));
  const local = starting.use(await startRegistry({ ...options, folder }));
  if (options.mode === 'ecr') {
    process.env['AWS_ENDPOINT_URL_ECR'] = local.url;
    process.env['AWS_ACCESS_KEY_ID'] = 'test';
    process.env['AWS_SECRET_ACCESS_KEY'] = 'test';
  }
  const running = starting.move();
  return {
    local,
    client: (more) => {
      const client = openRegistry(local.registryHost, {
        side: 'target',
        credentials: async () => undefined,
        endpoints: new Map([[local.registryHost, local.url]]),
        version: 'test',
        ...more,
      });
      running.use(client);
      return client;
    },
    [Symbol.asyncDispose]: async () => running.disposeAsync(),
  };
}
