import { storeCredentials, forgetCredentials, type StoredAt } from '../registry/auth-file.ts';
import { findCredentials } from '../registry/credentials.ts';
import { openRegistry } from '../registry/registry.ts';
import type { LoginRequest } from '../commands/context.ts';
import { systemClock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import { keepSecret } from '../util/own-secrets.ts';
import type { Settings } from './settings.ts';
import { programsUntil } from './wire.ts';

/** The result of a login. */
interface LoggedIn extends StoredAt {
  /** Whether the registry asked for the credentials, and took them. False: it needs no credentials, and did not check them. */
  readonly checked: boolean;
  /** Whether another file has credentials for the registry that are used instead. */
  readonly hidden: boolean;
}

/** Asks the registry whether it takes the credentials, then stores them. Nothing is stored where it refuses. */
export async function login(
  request: LoginRequest,
  settings: Settings,
  { version, signal }: { readonly version: string; readonly signal: AbortSignal },
): Promise<LoggedIn> {
  const { host, username, password, tlsVerify, plainHttp } = request;
  keepSecret(password);
  const file = loginFileOf(settings, request.authFile);
  const run = programsUntil(signal);
  let checked: boolean;
  {
    await using registry = openRegistry(host, {
      side: 'source',
      credentials: async () => ({ username, password }),
      prefersCredentials: true,
      endpoints: settings.endpoints,
      aws: { fips: settings.fips, proxies: settings.proxies },
      proxies: settings.proxies,
      certificates: { folders: settings.certificateFolders, verify: tlsVerify },
      plainHttp,
      version,
    });
    checked = await registry.check({ signal });
  }
  const stored = await storeCredentials(file, host, { username, password }, { run, clock: systemClock, signal });
  const files = request.authFile === undefined ? settings.authFiles : [file];
  const used = await findCredentials({ files, run, clock: systemClock })(host, undefined, { signal });
  const isUsed = used !== undefined && 'username' in used && used.username === username && used.password === password;
  return { ...stored, checked, hidden: !isUsed };
}

/** Removes the credentials of a registry from every file that commands read, or from the named one. */
export async function logout(
  { host, authFile }: Pick<LoginRequest, 'host' | 'authFile'>,
  settings: Settings,
  { signal }: { readonly signal: AbortSignal },
): Promise<readonly StoredAt[]> {
  const run = programsUntil(signal);
  const found: StoredAt[] = [];
  for (const file of authFile === undefined ? settings.authFiles : [authFile]) {
    const stored = await forgetCredentials(file, host, { run, clock: systemClock, signal });
    if (stored !== undefined) found.push(stored);
  }
  return found;
}

function loginFileOf({ requiredAuthFile, dockerConfigFile }: Settings, named: string | undefined): string {
  const file = named ?? requiredAuthFile ?? dockerConfigFile;
  if (file !== undefined) return file;
  throw new Failure('INVALID', 'there is no place for credentials: set HOME or REGISTRY_AUTH_FILE, or name --authfile');
}
