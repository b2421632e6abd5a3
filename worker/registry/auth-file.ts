import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { lockFile } from '../util/file-lock.ts';
import { isRecord } from '../util/record.ts';
import { redacted } from '../util/text.ts';
import { isNameOf, storedNamesOf, type RunProgram } from './credentials.ts';

// https://github.com/docker/cli/blob/master/man/docker-config-json.5.md

interface FileOptions extends Abortable {
  readonly run: RunProgram;
  readonly clock: Clock;
}

/** Where credentials were stored, or from where they were taken. */
export interface StoredAt {
  readonly file: string;
  /** The program that has them, which the file names. Absent: the file itself has them. */
  readonly helper?: string | undefined;
}

type Document = Readonly<Record<string, unknown>>;

/**
 * Stores credentials for `host` in a file as `docker login` does: with the credential helper that the file names for
 * the host or for all, otherwise in the file, which only its owner can read. The rest of the file stays as it is, and a
 * reader sees the old file or the new one. Several processes may do so at the same time. INVALID for a file that cannot be read; UNAUTHENTICATED for a helper that fails.
 */
export async function storeCredentials(
  file: string,
  host: string,
  { username, password }: { readonly username: string; readonly password: string },
  { run, clock, signal }: FileOptions,
): Promise<StoredAt> {
  const [name = host] = storedNamesOf(host);
  const helper = helperFor(await readDocument(file), host);
  const store = async (entry: Document): Promise<void> =>
    changeDocument(file, clock, { signal }, (document) => {
      const auths = Object.entries(membersOf(document, 'auths')).filter(([key]) => !isNameOf(host, key));
      return { ...document, auths: { ...Object.fromEntries(auths), [name]: entry } };
    });
  if (helper !== undefined) {
    const entry = JSON.stringify({ ServerURL: name, Username: username, Secret: password });
    await ask(run, helper, 'store', entry, `store credentials for ${host}`);
    // docker lists the registries of its store by empty entries
    await store({});
    return { file, helper };
  }
  await store({ auth: Buffer.from(`${username}:${password}`).toString('base64') });
  return { file };
}

/**
 * Takes the credentials for `host` out of a file, and out of the credential helper that it names for the host. Undefined where the file does not have
 * any. Failures are as those of `storeCredentials`.
 */
export async function forgetCredentials(
  file: string,
  host: string,
  { run, clock, signal }: FileOptions,
): Promise<StoredAt | undefined> {
  const document = await readDocument(file);
  // the first files of docker have no "auths"
  const isFlat = basename(file) === '.dockercfg';
  const authsOf = (one: Document): Document => (isFlat ? one : membersOf(one, 'auths'));
  const isListed = Object.keys(authsOf(document)).some((key) => isNameOf(host, key));
  const helper = helperFor(document, host);
  const isOwnHelper = Object.keys(membersOf(document, 'credHelpers')).some((key) => isNameOf(host, key));
  if (helper !== undefined && (isListed || isOwnHelper))
    for (const name of storedNamesOf(host))
      await ask(run, helper, 'erase', name, `remove the credentials for ${host}`, true);
  if (isListed)
    await changeDocument(file, clock, { signal }, (now) => {
      const rest = Object.fromEntries(Object.entries(authsOf(now)).filter(([key]) => !isNameOf(host, key)));
      return isFlat ? rest : { ...now, auths: rest };
    });
  return isListed || (helper !== undefined && isOwnHelper) ? { file, helper } : undefined;
}

/** The helper that a file names for a host, or for all hosts. */
function helperFor(document: Document, host: string): string | undefined {
  const own = Object.entries(membersOf(document, 'credHelpers')).find(([key]) => isNameOf(host, key))?.[1];
  const helper = own ?? document['credsStore'];
  return typeof helper === 'string' && helper !== '' ? helper : undefined;
}

function membersOf(document: Document, name: string): Document {
  const members = document[name];
  return isRecord(members) ? members : {};
}

/** The file as JSON; empty where it does not exist. */
async function readDocument(file: string): Promise<Document> {
  let text: string;
  try {
    // without O_NONBLOCK a FIFO, or /proc/kmsg, would wait for a writer
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await handle.stat()).isFile())
      throw new Failure('INVALID', `read credentials: ${file} is not a regular file: name another one`);
    text = await handle.readFile('utf8');
  } catch (cause) {
    if (isMissing(cause)) return {};
    if (isFailure(cause)) throw cause;
    throw new Failure('INVALID', `read credentials: ${file} cannot be read`, { cause });
  }
  let document: unknown;
  try {
    document = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    // the parser's own message may quote what is in the file
    throw new Failure('INVALID', `read credentials: ${file} is not JSON: it stays as it is`);
  }
  if (isRecord(document)) return document;
  throw new Failure('INVALID', `read credentials: ${file} is not a JSON object: it stays as it is`);
}

/** Replaces what a file has by what `change` makes of it, while no other process does so. */
async function changeDocument(
  file: string,
  clock: Clock,
  options: Abortable,
  change: (document: Document) => Document,
): Promise<void> {
  let unfinished: string | undefined;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    // a link stays a link
    const target = await realpath(file).catch(() => file);
    await using _lock = await lockFile(join(dirname(target), `.${basename(target)}.lock`), clock, options);
    const changed = change(await readDocument(file));
    unfinished = join(dirname(target), `.${basename(target)}.${randomUUID()}`);
    {
      await using handle = await open(unfinished, 'wx', 0o600);
      await handle.writeFile(`${JSON.stringify(changed, undefined, '\t')}\n`);
      await handle.sync();
    }
    await rename(unfinished, target);
  } catch (cause) {
    if (unfinished !== undefined) await rm(unfinished, { force: true });
    if (isFailure(cause)) throw cause;
    const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : '';
    throw new Failure('DENIED', `write credentials: ${file} cannot be written${code}`, { cause });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

/** https://github.com/docker/docker-credential-helpers#development */
async function ask(
  run: RunProgram,
  helper: string,
  action: 'store' | 'erase',
  input: string,
  what: string,
  mayBeMissing = false,
): Promise<void> {
  const program = `docker-credential-${helper}`;
  if (!/^[\w.-]+$/.test(helper)) throw new Failure('INVALID', `${what}: "${program}" cannot be a program`);
  let result: Awaited<ReturnType<RunProgram>>;
  try {
    result = await run(program, [action], input);
  } catch (cause) {
    const why = isMissing(cause) ? 'it is not installed' : 'it could not be run';
    throw new Failure('UNAUTHENTICATED', `${what} with ${program}: ${why}`, { cause });
  }
  const said = redacted(`${result.stdout} ${result.stderr}`.replace(/[\p{Cc}\s]+/gu, ' ')).trim();
  if (result.exitCode === 0 || (mayBeMissing && /not found|no credentials/i.test(said))) return;
  throw new Failure(
    'UNAUTHENTICATED',
    `${what} with ${program}: it failed: ${said.slice(0, 200) || `exit code ${result.exitCode}`}`,
  );
}
