import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { start, type Environment } from './interop-process.ts';

export interface DockerRegistryOptions {
  /** Holds its configuration and everything pushed. Created if it does not exist. */
  readonly folder: string;
  readonly env: Environment;
  /** Lines of an htpasswd file, bcrypt only. Absent: no credentials are required. */
  readonly htpasswd?: string;
  /** Whether manifests can be deleted. Default true; the default of the registry itself is false. */
  readonly deletes?: boolean;
  /** Files of its certificate and key. Absent: plain HTTP. */
  readonly tls?: { readonly certificate: string; readonly key: string };
}

/** A docker-registry 2.8 that stops when it is disposed. */
export interface DockerRegistry extends AsyncDisposable {
  /** `http://127.0.0.1:port`, or https. */
  readonly url: string;
  /** `127.0.0.1:port`: the registry of a reference. */
  readonly host: string;
}

/** How often a registry that has just started to listen is polled. */
const ATTEMPTS = 200;
const BETWEEN_MS = 25;

/** Starts Debian's docker-registry on a free port, and waits until it answers. */
export async function startDockerRegistry(options: DockerRegistryOptions): Promise<DockerRegistry> {
  await mkdir(options.folder, { recursive: true });
  const configuration = {
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: join(options.folder, 'data') },
      delete: { enabled: options.deletes ?? true },
    },
    http: {
      addr: '127.0.0.1:0',
      secret: 'of uploads that are taken up again',
      ...(options.tls === undefined ? {} : { tls: options.tls }),
    },
    ...(options.htpasswd === undefined
      ? {}
      : { auth: { htpasswd: { realm: 'interop', path: join(options.folder, 'htpasswd') } } }),
  };
  if (options.htpasswd !== undefined) await writeFile(join(options.folder, 'htpasswd'), options.htpasswd);
  // JSON is YAML
  const file = join(options.folder, 'config.yml');
  await writeFile(file, JSON.stringify(configuration));
  const server = start('docker-registry', ['serve', file], { env: options.env });
  try {
    const [, host = ''] = await server.stderrMatch(/listening on (127\.0\.0\.1:\d+)/);
    const url = `${options.tls === undefined ? 'http' : 'https'}://${host}`;
    // this process does not trust the certificate, so it cannot ask
    if (options.tls === undefined) await answering(`${url}/v2/`);
    return { url, host, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function answering(url: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      const { status, body } = await fetch(url);
      await body?.cancel();
      if (status === 200 || status === 401) return;
      throw new Error(`${url} answers ${status}`);
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await delay(BETWEEN_MS);
    }
  }
}
