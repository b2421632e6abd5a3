import { readFile } from 'node:fs/promises';
import { orAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import { keepSecret } from '../util/own-secrets.ts';
import { isRecord } from '../util/record.ts';
import { redacted } from '../util/text.ts';

/** Who we are for a registry. */
export type Credentials =
  | { readonly username: string; readonly password: string }
  /** What `docker login` gets from registries with OAuth: exchanged for access tokens. */
  | { readonly identityToken: string };

/**
 * Finds credentials; undefined for none. `repository` narrows it down where files hold some for parts of a registry. `refused` are those that
 * the registry did not take: others are given where there are newer ones, and the same otherwise.
 */
export type CredentialLookup = (
  host: string,
  repository: string | undefined,
  options: Abortable & { readonly refused?: Credentials | undefined },
) => Promise<Credentials | undefined>;

/** Runs a program with `input` on its stdin. Rejects with an error whose `code` is ENOENT when there is no such program. */
export type RunProgram = (
  program: string,
  args: readonly string[],
  input: string,
) => Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }>;

export interface CredentialOptions {
  /** `user:password`, for every registry of this side. */
  readonly explicit?: string | undefined;
  /** Docker's config.json and files of containers-auth.json, the first that knows a registry decides. Those that do not exist are passed over. */
  readonly files: readonly string[];
  /** One of the files that must exist, because it was asked for by name. */
  readonly required?: string | undefined;
  readonly run: RunProgram;
  readonly clock: Clock;
}

/** A parsed file: https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md and docker's, which is the same. */
interface AuthFile {
  readonly path: string;
  readonly auths: ReadonlyMap<string, Credentials>;
  readonly credHelpers: ReadonlyMap<string, string>;
  readonly credsStore: string | undefined;
}

/** The key under which docker keeps its Hub, and which it asks credential helpers for. */
const DOCKER_HUB = 'https://index.docker.io/v1/';
/** Helpers are asked again now and then: some give passwords that live for an hour. */
const HELPER_REUSE_MS = 300_000;
const DOCKER_HUB_HOSTS = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];

/**
 * Looks credentials up as docker, podman and skopeo do. Files are read once, helpers asked again every few minutes.
 * INVALID for a file that cannot be read and for explicit credentials that are none; UNAUTHENTICATED for a helper that fails or is missing.
 */
export function findCredentials(options: CredentialOptions): CredentialLookup {
  const explicit = options.explicit === undefined ? undefined : parseExplicit(options.explicit);
  let files: Promise<readonly AuthFile[]> | undefined;
  const fromHelpers = new Map<
    string,
    { readonly answer: Promise<Credentials | undefined>; readonly untilMs: number }
  >();

  const askHelper = async (helper: string, host: string, file: AuthFile): Promise<Credentials | undefined> => {
    const key = `${helper} ${host}`;
    const kept = fromHelpers.get(key);
    if (kept !== undefined && kept.untilMs > options.clock.now()) return kept.answer;
    const answer = runHelper(options.run, helper, host, file.path);
    fromHelpers.set(key, { answer, untilMs: options.clock.now() + HELPER_REUSE_MS });
    answer.catch(() => fromHelpers.delete(key));
    return answer;
  };

  const find = async (host: string, repository: string | undefined): Promise<Credentials | undefined> => {
    files ??= Promise.all(options.files.map(async (path) => readAuthFile(path, path === options.required)));
    for (const file of await files) {
      const helper = namesOf(host)
        .map((name) => file.credHelpers.get(name))
        .find((name) => name !== undefined);
      if (helper !== undefined) return askHelper(helper, host, file);
      for (const key of keysOf(host, repository)) {
        const found = file.auths.get(key);
        if (found !== undefined) return found;
      }
      if (file.credsStore === undefined) continue;
      const found = await askHelper(file.credsStore, host, file);
      if (found !== undefined) return found;
    }
    return undefined;
  };

  return async (host, repository, taskOptions) => {
    const found = explicit ?? (await orAborted(find(host, repository), taskOptions));
    if (found !== undefined) keepSecret('identityToken' in found ? found.identityToken : found.password);
    return found;
  };
}

/** Keys of `auths` that fit, the narrowest first: `host/a/b`, `host/a`, `host`. */
function keysOf(host: string, repository: string | undefined): readonly string[] {
  const parts = repository?.split('/') ?? [];
  return namesOf(host).flatMap((name) =>
    Array.from({ length: parts.length + 1 }, (_, i) => [name, ...parts.slice(0, parts.length - i)].join('/')),
  );
}

function namesOf(host: string): readonly string[] {
  return host === 'docker.io' ? DOCKER_HUB_HOSTS : [host];
}

function parseExplicit(text: string): Credentials {
  const colon = text.indexOf(':');
  if (colon < 1) throw new Failure('INVALID', 'credentials have to be given as user:password');
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

async function readAuthFile(path: string, required: boolean): Promise<AuthFile> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const missing = cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR');
    if (missing && !required) return { path, auths: new Map(), credHelpers: new Map(), credsStore: undefined };
    throw new Failure('INVALID', `read credentials: ${path} ${missing ? 'does not exist' : 'cannot be read'}`, {
      cause,
    });
  }
  return parseAuthFile(path, text);
}

function parseAuthFile(path: string, text: string): AuthFile {
  let body: unknown;
  try {
    // an empty file is what podman leaves after the last logout
    body = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    // the parser's own message may quote what is in the file
    throw new Failure('INVALID', `read credentials: ${path} is not JSON`);
  }
  if (!isRecord(body)) throw new Failure('INVALID', `read credentials: ${path} is not a JSON object`);
  const { credsStore } = body;
  const auths = new Map<string, Credentials>();
  for (const [key, entry] of entriesOf(body['auths'])) {
    const credentials = isRecord(entry) ? parseEntry(path, key, entry) : undefined;
    if (credentials !== undefined) auths.set(normalKey(key), credentials);
  }
  const credHelpers = new Map<string, string>();
  for (const [key, helper] of entriesOf(body['credHelpers'])) {
    if (typeof helper === 'string' && helper !== '') credHelpers.set(normalKey(key), helper);
  }
  return {
    path,
    auths,
    credHelpers,
    credsStore: typeof credsStore === 'string' && credsStore !== '' ? credsStore : undefined,
  };
}

/** `https://host/v1/` → `host`, as docker wrote them for the first registries; `host/path` stays. */
function normalKey(key: string): string {
  return key
    .replace(/^https?:\/\//, '')
    .replace(/\/v[12]\/?$/, '')
    .replace(/\/+$/, '');
}

/** Undefined for an entry without a secret: docker leaves some for what its store holds. */
function parseEntry(path: string, key: string, entry: Readonly<Record<string, unknown>>): Credentials | undefined {
  const { identitytoken, auth, username, password } = entry;
  if (typeof identitytoken === 'string' && identitytoken !== '') return { identityToken: identitytoken };
  if (typeof auth === 'string' && auth !== '') {
    // docker pads some with zeros
    const text = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = text.indexOf(':');
    if (colon < 1)
      throw new Failure('INVALID', `read credentials: in ${path}, auth of ${key} is not the base64 of user:password`);
    return { username: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  if (typeof username === 'string' && username !== '' && typeof password === 'string') return { username, password };
  return undefined;
}

/** https://github.com/docker/docker-credential-helpers#development */
async function runHelper(
  run: RunProgram,
  helper: string,
  host: string,
  path: string,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${helper}`;
  const what = `get credentials for ${host} from ${program}`;
  if (!/^[\w.-]+$/.test(helper))
    throw new Failure('INVALID', `read credentials: ${path} names a credential helper that cannot be`);
  let result: Awaited<ReturnType<RunProgram>>;
  try {
    result = await run(program, ['get'], host === 'docker.io' ? DOCKER_HUB : host);
  } catch (cause) {
    const missing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    const why = missing
      ? `${path} names it, but it is not installed; install it or remove it from the file`
      : cause instanceof Error && !('code' in cause)
        ? cause.message
        : 'it could not be run';
    throw new Failure('UNAUTHENTICATED', `${what}: ${why}`, { cause });
  }
  if (result.exitCode !== 0) {
    // helpers say why on stdout
    const said = redacted(`${result.stdout} ${result.stderr}`.replace(/[\p{Cc}\s]+/gu, ' ')).trim();
    if (/credentials not found|no credentials|not found in native keychain/i.test(said)) return undefined;
    throw new Failure('UNAUTHENTICATED', `${what}: it failed: ${said.slice(0, 200) || `exit code ${result.exitCode}`}`);
  }
  let body: unknown;
  try {
    body = JSON.parse(result.stdout);
  } catch {
    throw new Failure('UNAUTHENTICATED', `${what}: it did not answer with JSON`);
  }
  const { Username: username, Secret: secret } = isRecord(body) ? body : {};
  if (typeof username !== 'string' || typeof secret !== 'string')
    throw new Failure('UNAUTHENTICATED', `${what}: it answered without a user name and secret`);
  if (secret === '') return undefined;
  return username === '<token>' ? { identityToken: secret } : { username, password: secret };
}

function entriesOf(value: unknown): readonly [string, unknown][] {
  return isRecord(value) ? Object.entries(value) : [];
}
