import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { orAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { keepSecret } from '../util/own-secrets.ts';
import { isRecord } from '../util/record.ts';
import { compareStrings, redacted } from '../util/text.ts';

/** How we identify ourselves to a registry. */
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
  /**
   * Docker's config.json and `.dockercfg`, and files of containers-auth.json. The first that has the registry decides, and later files are not
   * read then. Files that do not exist are skipped.
   */
  readonly files: readonly string[];
  /** One of the files that must exist, because it was asked for by name. */
  readonly required?: string | undefined;
  readonly run: RunProgram;
  readonly clock: Clock;
  /** Receives a warning for each broken entry and helper that was not needed. */
  readonly report?: Report | undefined;
}

/** What a file has for one registry. `kept-by-store`: an empty entry, which `docker login` leaves where its store holds the credentials. */
type Entry = Credentials | { readonly broken: string } | 'kept-by-store';

/** A parsed file: https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md and docker's, which is the same. */
interface AuthFile {
  readonly path: string;
  readonly auths: ReadonlyMap<string, Entry>;
  readonly credHelpers: ReadonlyMap<string, string>;
  readonly credsStore: string | undefined;
}

/** The key under which docker keeps its Hub, and which it asks credential helpers for. */
const DOCKER_HUB = 'https://index.docker.io/v1/';
/** Helpers are asked again now and then: some give passwords that live for an hour. */
const HELPER_REUSE_MS = 300_000;
const DOCKER_HUB_HOSTS = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];
/** The file of docker before 1.7: the entries that other files have under `auths` are at its top. */
const LEGACY_FILE = '.dockercfg';

/**
 * Looks credentials up as docker, podman and skopeo do. Files are read once, helpers asked again every few minutes. Hosts are compared without regard
 * to case.
 *
 * INVALID for a file that cannot be read, for a malformed entry of the registry that was asked for, and for malformed explicit credentials;
 * UNAUTHENTICATED for a helper of that registry that fails or is missing. A failing store of all registries is a warning, unless the file states that
 * the store holds this registry: a public image needs no credentials.
 */
export function findCredentials(options: CredentialOptions): CredentialLookup {
  const explicit = options.explicit === undefined ? undefined : parseExplicit(options.explicit);
  const files = options.files.map((path) => fileOnce(path, options));
  const askHelper = helpersOf(options);

  const find = async (host: string, repository: string | undefined): Promise<Credentials | undefined> => {
    const names = namesOf(host.toLowerCase());
    for (const read of files) {
      const file = await read();
      const helper = names.map((name) => file.credHelpers.get(name)).find((name) => name !== undefined);
      if (helper !== undefined) {
        const found = await askHelper(helper, host, file);
        if (found !== undefined) return found;
        continue;
      }
      const entries = keysOf(names, repository).flatMap((key) => file.auths.get(key) ?? []);
      const entry = entries.find((one) => one !== 'kept-by-store');
      if (entry !== undefined) {
        if ('broken' in entry) throw new Failure('INVALID', entry.broken);
        return entry;
      }
      if (file.credsStore === undefined) continue;
      try {
        const found = await askHelper(file.credsStore, host, file);
        if (found !== undefined) return found;
      } catch (error) {
        if (!isFailure(error) || entries.length > 0) throw error;
        options.report?.({
          type: 'warning',
          message: `${error.message}; continuing without the credentials of that store`,
        });
      }
    }
    return undefined;
  };

  return async (host, repository, taskOptions) => {
    const found = explicit ?? (await orAborted(find(host, repository), taskOptions));
    if (found !== undefined) keepSecret('identityToken' in found ? found.identityToken : found.password);
    return found;
  };
}

/** The hosts of the registries that these files have credentials for, sorted. A file that cannot be read adds no host. */
export async function registriesIn(files: readonly string[]): Promise<readonly string[]> {
  const hosts = new Set<string>();
  for (const path of files) {
    const file = await readAuthFile(path, false, undefined).catch(() => undefined);
    for (const key of [...(file?.auths.keys() ?? []), ...(file?.credHelpers.keys() ?? [])]) {
      const [host = ''] = key.split('/', 1);
      if (host !== '') hosts.add(DOCKER_HUB_HOSTS.includes(host) ? 'docker.io' : host);
    }
  }
  return [...hosts].sort(compareStrings);
}

/** The file at `path`, read when it is first needed. */
function fileOnce(path: string, { required, report }: CredentialOptions): () => Promise<AuthFile> {
  let file: Promise<AuthFile> | undefined;
  return async () => (file ??= readAuthFile(path, path === required, report));
}

/** Asks helpers, and keeps each answer for a few minutes. Failures are not kept. */
function helpersOf({
  run,
  clock,
}: CredentialOptions): (helper: string, host: string, file: AuthFile) => Promise<Credentials | undefined> {
  const known = new Map<string, { readonly answer: Promise<Credentials | undefined>; readonly untilMs: number }>();
  return async (helper, host, file) => {
    const key = `${helper} ${host}`;
    const kept = known.get(key);
    if (kept !== undefined && kept.untilMs > clock.now()) return kept.answer;
    const answer = askByEveryName(run, helper, host, file.path);
    known.set(key, { answer, untilMs: clock.now() + HELPER_REUSE_MS });
    answer.catch(() => known.delete(key));
    return answer;
  };
}

/** Keys of `auths` that fit, the narrowest first: `host/a/b`, `host/a`, `host`. */
function keysOf(names: readonly string[], repository: string | undefined): readonly string[] {
  const parts = repository?.split('/') ?? [];
  return names.flatMap((name) =>
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

async function readAuthFile(path: string, required: boolean, report: Report | undefined): Promise<AuthFile> {
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
  const file = parseAuthFile(path, text);
  for (const entry of file.auths.values()) {
    if (typeof entry === 'object' && 'broken' in entry)
      report?.({ type: 'warning', message: `${entry.broken}; the entry is ignored until it is needed` });
  }
  return file;
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
  const auths = new Map<string, Entry>();
  for (const [key, value] of entriesOf(basename(path) === LEGACY_FILE ? body : body['auths'])) {
    const entry = isRecord(value) ? parseEntry(path, key, value) : undefined;
    const known = auths.get(normalKey(key));
    // of two spellings of one host, the valid entry wins
    if (entry !== undefined && (known === undefined || isCredentials(entry))) auths.set(normalKey(key), entry);
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

/** Whether the key of an entry stands for all of `host`, however it is spelt. */
export function isNameOf(host: string, key: string): boolean {
  return namesOf(host.toLowerCase()).includes(normalKey(key));
}

/** `https://Host/v1/` → `host`, as docker wrote them for the first registries; `host/path` stays. */
function normalKey(key: string): string {
  return key
    .replace(/^https?:\/\//i, '')
    .replace(/\/v[12]\/?$/, '')
    .replace(/\/+$/, '')
    .replace(/^[^/]+/, (host) => host.toLowerCase());
}

function isCredentials(entry: Entry): entry is Credentials {
  return typeof entry === 'object' && !('broken' in entry);
}

function parseEntry(path: string, key: string, entry: Readonly<Record<string, unknown>>): Entry {
  const { identitytoken, auth, username, password } = entry;
  if (typeof identitytoken === 'string' && identitytoken !== '') return { identityToken: identitytoken };
  if (typeof auth === 'string' && auth !== '') {
    // docker pads some with zeros
    const text = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = text.indexOf(':');
    if (colon < 1) return { broken: `read credentials: in ${path}, auth of ${key} is not the base64 of user:password` };
    return { username: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  if (typeof username === 'string' && username !== '' && typeof password === 'string') return { username, password };
  return 'kept-by-store';
}

/** The names under which a login may have stored the credentials of `host`, the usual one first. */
export function storedNamesOf(host: string): readonly string[] {
  if (host.toLowerCase() === 'docker.io') return [DOCKER_HUB, 'docker.io'];
  return [...new Set([host, host.toLowerCase(), `https://${host.toLowerCase()}`])];
}

async function askByEveryName(
  run: RunProgram,
  helper: string,
  host: string,
  path: string,
): Promise<Credentials | undefined> {
  for (const name of storedNamesOf(host)) {
    const found = await runHelper(run, { helper, host, name, path });
    if (found !== undefined) return found;
  }
  return undefined;
}

/** https://github.com/docker/docker-credential-helpers#development */
async function runHelper(
  run: RunProgram,
  question: { readonly helper: string; readonly host: string; readonly name: string; readonly path: string },
): Promise<Credentials | undefined> {
  const { helper, host, name, path } = question;
  const program = `docker-credential-${helper}`;
  const what = `get credentials for ${host} from ${program}`;
  if (!/^[\w.-]+$/.test(helper))
    throw new Failure('INVALID', `read credentials: ${path} names a credential helper that cannot be`);
  let result: Awaited<ReturnType<RunProgram>>;
  try {
    result = await run(program, ['get'], name);
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
