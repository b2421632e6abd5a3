import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import type { ConnectOptions } from '../../worker/commands/context.ts';
import type { Source, Target } from '../../worker/content/content.ts';
import { copy } from '../../worker/copy/copy.ts';
import { startRegistry, type LocalRegistry, type RegistryServerOptions } from '../../local/registry/registry.ts';
import { startStack, type Stack } from '../../local/stack.ts';
import type { OperationOptions } from '../../worker/images/backends.ts';
import type { DeletingBackends } from '../../worker/images/deletions.ts';
import { parseDestination, parseLocation } from '../../worker/oci/location.ts';
import { copyImage, type ImageCopyRequest, type ImageCopyResult } from '../../worker/images/copy-image.ts';
import { openRegistry, type RegistryClient } from '../../worker/registry/registry.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { describeFailure, isFailure, type Failure } from '../../worker/util/failure.ts';
import type { Event } from '../../worker/util/events.ts';
import { connectDeleting } from '../../worker/main/wire.ts';
import { fakeClock, type FakeClock } from './clock.ts';
import type { MadeImage } from './images.ts';

/** The embedded stack, with what flows over it need. The tests of one file share it, each with its own repositories and keys. */
export interface Lab extends AsyncDisposable {
  readonly stack: Stack;
  /** A folder for files. */
  readonly folder: string;
  /** What one command is to the program: its own backends, without earlier knowledge. Closed with the test. */
  session(options?: Partial<ConnectOptions>): Session;
  /** One more registry, for this test only. The SDK finds an ECR by its region: choose one that the stack does not have. */
  registry(options: ServerOptions): Promise<LocalRegistry>;
  /** A client of the test itself, to look at a registry independently of the program. Closed with the test. */
  client(registry: LocalRegistry): RegistryClient;
  /** A repository by a client of its own. */
  view(registry: LocalRegistry, repository: string): Source & Target;
  /** Puts an image there, as another program would. */
  push(image: MadeImage, registry: LocalRegistry, repository: string): Promise<void>;
}

type WithoutFolder<T> = T extends unknown ? Omit<T, 'folder'> & { readonly folder?: string } : never;
type ServerOptions = WithoutFolder<RegistryServerOptions>;

/** Retries and paces take no time here: sleeping advances the clock. */
export interface Session {
  readonly backends: DeletingBackends;
  readonly options: OperationOptions & { readonly clock: FakeClock };
  readonly events: readonly Event[];
  /** Does what `transship copy from to` does. */
  readonly copy: (from: string, to: string, more?: Omit<ImageCopyRequest, 'from' | 'to'>) => Promise<ImageCopyResult>;
}

export async function openLab(stackOptions: { readonly pushEvents?: boolean } = {}): Promise<Lab> {
  await using starting = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'transship-flow-'));
  starting.defer(async () => rm(folder, { recursive: true, force: true }));
  const stack = starting.use(await startStack({ folder: join(folder, 'stack'), ...stackOptions }));
  Object.assign(process.env, stack.environment);
  const endpoints = new Map(readSettings(stack.environment).endpoints);
  let registries = 0;
  const running = starting.move();

  const lab: Lab = {
    stack,
    folder,
    session: (o = {}) => {
      const events: Event[] = [];
      const clock = fakeClock();
      const report = (event: Event): void => void events.push(event);
      const settings = { ...readSettings({ HOME: folder }), endpoints };
      const backends = connectDeleting(settings, 'test', { ...o, report }, clock);
      onTestFinished(async () => backends[Symbol.asyncDispose]());
      const options = { clock, report };
      return {
        backends: backends,
        options: options,
        events,
        copy: async (from, to, more) =>
          copyImage({ ...more, from: parseLocation(from), to: parseDestination(to) }, backends, options),
      };
    },
    registry: async (options) => {
      const started = await startRegistry({ folder: join(folder, `registry-${++registries}`), ...options });
      endpoints.set(started.registryHost, started.url);
      const before = process.env['AWS_ENDPOINT_URL_ECR'];
      if (options.mode === 'ecr') process.env['AWS_ENDPOINT_URL_ECR'] = started.url;
      onTestFinished(async () => {
        if (before !== undefined) process.env['AWS_ENDPOINT_URL_ECR'] = before;
        await started.close();
      });
      return started;
    },
    client: (registry) => {
      const client = openRegistry(registry.registryHost, {
        side: 'target',
        credentials: async () => ({ username: 'ann', password: PASSWORD }),
        endpoints,
        create: {},
        version: 'test',
        clock: fakeClock(),
      });
      onTestFinished(async () => client.close());
      return client;
    },
    view: (registry, repository) => lab.client(registry).repository(repository),
    push: async (image, registry, repository) => {
      await copy(image.content, lab.view(registry, repository), [image.root]);
    },
    [Symbol.asyncDispose]: async () => running.disposeAsync(),
  };
  return lab;
}

/** The password of `ann`, a user of each registry that has users. */
export const PASSWORD = 'correct-horse-battery';

/** The Failure of `work`, which must have this code. */
export async function failureOf(work: Promise<unknown>, code: Failure['code']): Promise<Failure> {
  const error = await work.then(
    (value) => expect.unreachable(`it succeeded: ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  if (!isFailure(error)) throw error;
  expect(error.code, error.message).toBe(code);
  return error;
}

/** The sentence with which `work` fails, with `code`, as a person reads it. */
export async function sentenceOf(work: Promise<unknown>, code: Failure['code']): Promise<string> {
  return describeFailure(await failureOf(work, code));
}

/** How many requests of each kind (`manifest-head`, `blob-get`) a registry receives while `work` runs. */
export async function requestsDuring(
  registry: LocalRegistry,
  work: () => Promise<unknown>,
): Promise<Readonly<Record<string, number>>> {
  const before = new Set(registry.requests);
  await work();
  const counts: Record<string, number> = {};
  for (const served of registry.requests) if (!before.has(served)) counts[served.kind] = (counts[served.kind] ?? 0) + 1;
  return counts;
}
