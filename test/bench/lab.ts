import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { copy } from '../../worker/copy/copy.ts';
import { openRegistry, type RegistryClient } from '../../worker/registry/registry.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { MadeImage } from '../support/images.ts';
import { CHECKOUT, run, type Environment, type Workspace } from '../support/interop-process.ts';
import { startDockerRegistry, type DockerRegistry } from '../support/interop-registry.ts';
import { writeImage } from './images.ts';
import type { Command } from './measure.ts';
import type { Security } from './tools.ts';

/** The servers of a benchmark: registries of Debian, plain and with TLS, and the embedded S3 in a process of its own. */
export class BenchLab {
  /** The environment of each measured program: every tool trusts the certificates of the registries. */
  readonly env: Environment;
  readonly #work: Workspace;

  private constructor(work: Workspace) {
    this.#work = work;
    // as for a user: the program keeps compiled code in its default place
    const { NODE_COMPILE_CACHE: _, ...env } = work.env;
    this.env = { ...env, SSL_CERT_FILE: join(work.folder, 'cert.pem') };
  }

  /** Builds the program, because the benchmark measures what is installed, and creates the certificate. */
  static async create(work: Workspace): Promise<BenchLab> {
    const env = { PATH: process.env['PATH'] ?? '' };
    await run(process.execPath, ['build.ts'], { env });
    const [certificate, key] = ['cert.pem', 'key.pem'].map((name) => join(work.folder, name)) as [string, string];
    const request = '-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1';
    await run('openssl', ['req', ...request.split(' '), '-keyout', key, '-out', certificate], { env });
    return new BenchLab(work);
  }

  /** A folder of its own, removed at the end. */
  async folder(name: string): Promise<string> {
    return mkdtemp(join(this.#work.folder, `${name}-`));
  }

  /** An empty registry. Its folder is removed when it is disposed. */
  async registry(security: Security): Promise<DockerRegistry> {
    const folder = await this.folder('registry');
    const [certificate, key] = ['cert.pem', 'key.pem'].map((name) => join(this.#work.folder, name)) as [string, string];
    const tls = security === 'tls' ? { tls: { certificate, key } } : {};
    const registry = await startDockerRegistry({ folder, env: this.env, ...tls });
    return {
      ...registry,
      [Symbol.asyncDispose]: async () => {
        await registry[Symbol.asyncDispose]();
        await rm(folder, { recursive: true, force: true });
      },
    };
  }

  /** Pushes one image of layers of these sizes to a plain registry, or to one with TLS, and returns its reference. */
  async pushLarge(registry: DockerRegistry, security: Security, sizes: readonly number[]): Promise<string> {
    const layout = await this.folder('image');
    await writeImage(layout, sizes);
    const to = `${registry.host}/bench:bench`;
    const verify = `--dest-tls-verify=${String(security === 'tls')}`;
    const args = ['--insecure-policy', 'copy', '--quiet', verify, `oci:${layout}:bench`, `docker://${to}`];
    await run('skopeo', args, { env: this.env });
    await rm(layout, { recursive: true });
    return to;
  }

  /** The embedded stack, and the environment variables that a program needs to use its S3. */
  async s3(): Promise<AsyncDisposable & { readonly env: Environment }> {
    const local = await this.#serve('local/cli.ts', 'local', '--json', '--dir', await this.folder('stack'));
    return { ...local, env: local.ready as Environment };
  }

  /** A front of a server, `host:port`, that limits each connection by itself: `20MB/s,10ms`, each way. */
  async shaped(host: string, shape: string): Promise<AsyncDisposable & { readonly host: string }> {
    const proxy = await this.#serve('test/bench/shape.ts', '--shape', shape, host);
    const [front = ''] = proxy.ready as readonly string[];
    return { ...proxy, host: front };
  }

  /** Runs a command until it exits, before a measurement. */
  async run({ command, args }: Omit<Command, 'env'>, env = this.env): Promise<void> {
    await run(command, args, { env });
  }

  /** A program of this checkout that prints a line of JSON when it is ready, and runs until it is disposed. */
  async #serve(...args: readonly string[]): Promise<AsyncDisposable & { readonly ready: unknown }> {
    const child = spawn(process.execPath, args, {
      env: { ...this.env },
      cwd: CHECKOUT,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const gone = once(child, 'exit');
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    return {
      ready: JSON.parse(line) as unknown,
      [Symbol.asyncDispose]: async () => {
        child.kill();
        await gone;
      },
    };
  }
}

/** Pushes an image that is created in memory, by the engine, to a plain registry. */
export async function pushMade(host: string, repository: string, image: MadeImage): Promise<void> {
  await using registry = openTarget(host);
  await copy(image.content, registry.repository(repository), [image.root]);
}

/** A plain registry to push to. */
export function openTarget(host: string): RegistryClient {
  return openRegistry(host, {
    side: 'target',
    credentials: async () => undefined,
    plainHttp: true,
    create: {},
    version: 'bench',
    clock: systemClock,
  });
}
