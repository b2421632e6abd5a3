import { join } from 'node:path';
import { withoutSecrets } from './oci/reference.ts';
import { Failure } from './util/failure.ts';
import { quote } from './util/quote.ts';

/** What the environment says. AWS's own variables are read by its SDK and are not repeated here. */
export interface Settings {
  /** Where a registry's host really answers, by host. */
  readonly endpoints: ReadonlyMap<string, string>;
  /** Files with registry credentials, the first that knows a registry decides. Those that do not exist are passed over. */
  readonly authFiles: readonly string[];
  /** The file that was asked for by name: it must exist. */
  readonly requiredAuthFile: string | undefined;
  /** Blobs at once; absent: the default. */
  readonly concurrency: number | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the environment. INVALID, naming the variable, for what cannot be. */
export function readSettings(env: Environment): Settings {
  const home = text(env, 'HOME');
  const runtime = text(env, 'XDG_RUNTIME_DIR');
  const docker = text(env, 'DOCKER_CONFIG') ?? (home === undefined ? undefined : join(home, '.docker'));
  const required = text(env, 'REGISTRY_AUTH_FILE');
  return {
    endpoints: readEndpoints(text(env, 'TRANSSHIP_REGISTRY_ENDPOINTS') ?? ''),
    // where `skopeo login` and `podman login` write, then docker's: https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md
    authFiles:
      required !== undefined
        ? [required]
        : [
            ...(runtime === undefined ? [] : [join(runtime, 'containers', 'auth.json')]),
            ...(docker === undefined ? [] : [join(docker, 'config.json')]),
          ],
    requiredAuthFile: required,
    concurrency: readConcurrency(text(env, 'TRANSSHIP_CONCURRENCY')),
  };
}

function readEndpoints(value: string): ReadonlyMap<string, string> {
  const endpoints = new Map<string, string>();
  for (const pair of value.split(',')) {
    if (pair.trim() === '') continue;
    const at = pair.indexOf('=');
    const [host, url] = [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    if (at < 1 || !/^https?:\/\/[^/]+\/?$/.test(url)) {
      throw new Failure(
        'INVALID',
        `TRANSSHIP_REGISTRY_ENDPOINTS: ${quote(withoutSecrets(pair))} is not host=http://address:port`,
      );
    }
    endpoints.set(host, url.replace(/\/$/, ''));
  }
  return endpoints;
}

function readConcurrency(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (Number.isInteger(number) && number >= 1 && number <= 64) return number;
  throw new Failure('INVALID', `TRANSSHIP_CONCURRENCY: ${quote(value)} is not a whole number from 1 to 64`);
}

function text(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value === undefined || value === '' ? undefined : value;
}
