import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export type Environment = Readonly<Record<string, string>>;

export interface ProcessOptions {
  /** The whole environment of the process. Nothing is inherited from the test. */
  readonly env: Environment;
  /** Default: the checkout. */
  readonly cwd?: string;
}

/** A process that exited, with any result. */
export interface Finished {
  /** The command line, for messages. */
  readonly command: string;
  /** Absent when a signal ended it. */
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** A running process. Disposing kills it and waits for its exit. */
export interface Running extends AsyncDisposable {
  readonly finished: Promise<Finished>;
  /** What it wrote to stderr so far. */
  readonly stderr: string;
  /** Resolves with the first match in stderr, or rejects when the process exits without one. */
  stderrMatch(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves with the awaited value, or rejects when the process exits first. */
  until<T>(awaited: Promise<T>): Promise<T>;
  kill(signal: NodeJS.Signals): void;
}

/** A folder that is removed at the end, and an environment whose home is in it: no credentials, no settings of the machine's user. */
export interface Workspace extends AsyncDisposable {
  readonly folder: string;
  readonly env: Environment;
}

/** The root of the checkout. */
export const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url));

/** The Debian packages of the tools, for the message about a missing one. */
const INSTALL =
  'apt-get install skopeo docker-registry umoci podman runc conmon busybox-static buildah debootstrap awscli';

/** Whether the machine has a tool that tests can do without. */
export function isInstalled(command: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => existsSync(join(folder, command)));
}

export async function createWorkspace(): Promise<Workspace> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-interop-'));
  const home = join(folder, 'home');
  await mkdir(home);
  return {
    folder,
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      TMPDIR: folder,
      // where skopeo looks before the home
      XDG_RUNTIME_DIR: home,
      LANG: 'C.UTF-8',
      AWS_EC2_METADATA_DISABLED: 'true',
      // a hundred starts of the program are a good part of these tests' time
      NODE_COMPILE_CACHE: join(folder, 'compile-cache'),
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Starts a process without a terminal and with an empty stdin. */
export function start(command: string, args: readonly string[], options: ProcessOptions): Running {
  const line = [command, ...args].join(' ');
  // ends with this process, however that ends: a stopped test runner leaves no server running
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
    env: options.env,
    cwd: options.cwd ?? CHECKOUT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stdout: Buffer[] = [];
  const progress = new EventTarget();
  let stderr = '';
  let ended = false;
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    stderr += chunk;
    progress.dispatchEvent(new Event('change'));
  });
  const finished = (async (): Promise<Finished> => {
    try {
      await once(child, 'close');
    } catch (cause) {
      throw new Error(`${line}: ${String(cause)}`, { cause });
    } finally {
      ended = true;
      progress.dispatchEvent(new Event('change'));
    }
    if (child.exitCode === 127 && stderr.startsWith('setpriv: failed to execute'))
      throw new Error(`${command} is not installed: ${INSTALL}`);
    return {
      command: line,
      code: child.exitCode ?? undefined,
      signal: child.signalCode ?? undefined,
      stdout: Buffer.concat(stdout),
      stderr,
    };
  })();
  // a caller that awaits it learns of a failure; not awaiting it is allowed
  finished.catch(() => undefined);
  return {
    finished,
    get stderr() {
      return stderr;
    },
    stderrMatch: async (pattern) => {
      for (;;) {
        const match = pattern.exec(stderr);
        if (match !== null) return match;
        if (ended) throw new Error(`${line} ended without saying ${String(pattern)}:\n${stderr}`);
        await once(progress, 'change');
      }
    },
    until: async (awaited) =>
      Promise.race([
        awaited,
        finished.then((f) => {
          throw new Error(`${line} ended too early, with ${f.signal ?? `code ${f.code}`}:\n${f.stderr}`);
        }),
      ]),
    kill: (signal) => {
      child.kill(signal);
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await finished.catch(() => undefined);
    },
  };
}

/** Runs a process until it exits, with any result. */
export async function attempt(command: string, args: readonly string[], options: ProcessOptions): Promise<Finished> {
  return start(command, args, options).finished;
}

/** Runs a process that must succeed. Returns its stdout. */
export async function run(command: string, args: readonly string[], options: ProcessOptions): Promise<Buffer> {
  return succeeded(await attempt(command, args, options));
}

/** The stdout of a process that succeeded; throws with its stderr when it did not. */
export function succeeded(f: Finished): Buffer {
  if (f.code === 0) return f.stdout;
  throw new Error(`${f.command}\nended with ${f.signal ?? `code ${f.code}`}:\n${f.stderr}${f.stdout.toString()}`);
}

/** The arguments with which this Node runs the program of the checkout. */
export function transship(args: readonly string[]): readonly [command: string, args: readonly string[]] {
  return [process.execPath, [join(CHECKOUT, 'bin', 'transship.js'), ...args]];
}

/** Runs the program, which must succeed. Returns the document of `--json`. */
export async function transshipJson<T>(args: readonly string[], options: ProcessOptions): Promise<T> {
  return JSON.parse((await run(...transship([...args, '--json']), options)).toString()) as T;
}

/** Runs skopeo, which must succeed, over plain HTTP and with any image. Returns its stdout. */
export async function skopeo(args: readonly string[], options: ProcessOptions): Promise<Buffer> {
  const [command = '', ...rest] = args;
  const tls =
    command === 'copy' ? ['--src-tls-verify=false', '--dest-tls-verify=false', '--quiet'] : ['--tls-verify=false'];
  return run('skopeo', ['--insecure-policy', command, ...tls, ...rest], options);
}
