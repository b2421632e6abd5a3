import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CreateRepositoryCommand,
  ECRClient,
  GetAuthorizationTokenCommand,
  type CreateRepositoryCommandInput,
  type CreateRepositoryCommandOutput,
} from '@aws-sdk/client-ecr';
import { afterEach, beforeEach } from 'vitest';
import { startRegistry, type EcrServerOptions, type LocalRegistry } from '../../registry/registry.ts';
import { fakeClock, type FakeClock } from '../../../test/support/clock.ts';
import { RawRegistry } from '../../../test/support/raw-registry.ts';

export const ACCOUNT = { account: '111111111111', region: 'us-east-1' };
export const HOST = '111111111111.dkr.ecr.us-east-1.amazonaws.com';

let folder: string;
export let clock: FakeClock;
export let registry: LocalRegistry;
export let ecr: ECRClient;
export let raw: RawRegistry;

/** Starts an ECR before each test of a file, and closes it after. */
export function useEcr(): void {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ecr-'));
    clock = fakeClock();
    await start({});
  });

  afterEach(async () => {
    ecr.destroy();
    await registry.close();
    await rm(folder, { recursive: true });
  });
}

export function client(options: { readonly region: string }): ECRClient {
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local' };
  return new ECRClient({ endpoint: registry.url, region: options.region, credentials, maxAttempts: 1 });
}

async function start(
  options: Omit<EcrServerOptions, 'folder' | 'mode' | 'clock' | 'account' | 'region'>,
): Promise<void> {
  registry = await startRegistry({ folder, mode: 'ecr', clock, ...ACCOUNT, ...options });
  ecr = client(ACCOUNT);
  if (options.deny?.includes('ecr:GetAuthorizationToken') === true) return;
  await signIn();
}

/** Gives `raw` a new token. */
export async function signIn(): Promise<void> {
  raw = new RawRegistry(registry.url, { authorization: await basic() });
}

/** An Authorization header with a new token. */
export async function basic(): Promise<string> {
  const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
  return `Basic ${authorizationData?.[0]?.authorizationToken ?? ''}`;
}

/** Restarts the ECR on the same folder, with other options. */
export async function restart(options: Parameters<typeof start>[0]): Promise<void> {
  ecr.destroy();
  await registry.close();
  await start(options);
}

export async function create(
  repositoryName: string,
  options: Partial<CreateRepositoryCommandInput> = {},
): Promise<CreateRepositoryCommandOutput> {
  return ecr.send(new CreateRepositoryCommand({ ...options, repositoryName }));
}
