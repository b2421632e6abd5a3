import { isatty } from 'node:tty';
import { Command, CommanderError } from 'commander';
import manifest from '../../package.json' with { type: 'json' };
import type { CommandContext } from '../commands/context.ts';
import { ASKED } from '../commands/completion/asked.ts';
import { fitted, lookOf } from '../commands/look.ts';
import type { Screen } from '../commands/screen.ts';
import { printable } from '../commands/text.ts';
import { describeFailure, Failure, isFailure, type Code } from '../util/failure.ts';
import { setEngineFlags } from './engine-flags.ts';
import { meantCommand } from './meant-command.ts';
import type { ProgramSurroundings, Surroundings } from './command-context.ts';

const { version } = manifest;

const HELP_END = `
Exit codes: 0 done, 1 failed, 2 wrong usage or malformed input, 130 interrupted;
3 finished and found faults: the last line on standard error has the reason.
Credentials: of transship login, docker login and podman login, or the file that
$REGISTRY_AUTH_FILE names; for ECR and S3 those of the AWS SDK.`;

/** Longer lines are hard to read, on however wide a terminal. */
const MOST_HELP_COLUMNS = 120;

/** Adds one command to the program. */
type AddCommand = (program: Command, context: CommandContext) => void;

/** By the name of a command, what loads the function that adds it. */
export type Commands = Readonly<Record<string, () => Promise<AddCommand>>>;

/** In the order of `--help`. The code of a command is loaded when it is named. */
const COMMANDS: Commands = {
  copy: async () => (await import('../commands/copy.ts')).addCopy,
  inspect: async () => (await import('../commands/inspect.ts')).addInspect,
  verify: async () => (await import('../commands/verify.ts')).addVerify,
  diff: async () => (await import('../commands/diff.ts')).addDiff,
  backup: async () => (await import('../commands/backup.ts')).addBackup,
  snapshots: async () => (await import('../commands/snapshots.ts')).addSnapshots,
  report: async () => (await import('../commands/report.ts')).addReport,
  restore: async () => (await import('../commands/restore.ts')).addRestore,
  list: async () => (await import('../commands/list.ts')).addList,
  stats: async () => (await import('../commands/stats.ts')).addStats,
  serve: async () => (await import('../commands/serve.ts')).addServe,
  prune: async () => (await import('../commands/prune.ts')).addPrune,
  publish: async () => (await import('../commands/publish.ts')).addPublish,
  extract: async () => (await import('../commands/extract.ts')).addExtract,
  init: async () => (await import('../commands/init.ts')).addInit,
  sync: async () => (await import('../commands/sync.ts')).addSync,
  apply: async () => (await import('../commands/apply.ts')).addApply,
  import: async () => (await import('../commands/import.ts')).addImport,
  rules: async () => (await import('../commands/rules.ts')).addRules,
  enqueue: async () => (await import('../commands/enqueue.ts')).addEnqueue,
  status: async () => (await import('../commands/status.ts')).addStatus,
  scale: async () => (await import('../commands/scale.ts')).addScale,
  redrive: async () => (await import('../commands/redrive.ts')).addRedrive,
  worker: async () => (await import('../commands/worker.ts')).addWorker,
  planner: async () => (await import('../commands/planner.ts')).addPlanner,
  cleaner: async () => (await import('../commands/cleaner.ts')).addCleaner,
  login: async () => (await import('../commands/login.ts')).addLogin,
  logout: async () => (await import('../commands/login.ts')).addLogout,
  cost: async () => (await import('../commands/cost.ts')).addCost,
  completion: async () => (await import('../commands/completion.ts')).addCompletion,
};

/** Runs the command that the arguments name; those of the deployed system, and `more`. Sets the exit code. `stop` ends it. */
export async function runProgram(stop: AbortSignal, more: Commands = {}): Promise<void> {
  const { argv, env } = process;
  const exitCode = await execute(
    {
      argv,
      env,
      stdout: screen(process.stdout),
      stderr: screen(process.stderr),
      ask:
        isatty(process.stdin.fd) && isatty(process.stderr.fd)
          ? (question, options) => ask(question, { ...options, signal: stop })
          : undefined,
      stop,
      onLoaded: setEngineFlags,
    },
    more,
  );
  if (exitCode !== 0) process.exitCode = exitCode;
}

/** As `runProgram`, within these surroundings; the AWS SDK looks at those of the process all the same. Returns the exit code. */
export async function execute(surroundings: Surroundings, more: Commands = {}): Promise<number> {
  const { argv, stderr, stop } = surroundings;
  let exitCode = 0;
  let found: string | undefined;
  const exit = (code: 1 | 3, reason?: string): void => {
    exitCode = code;
    found = reason;
  };
  const print = (text: string): void => stderr.write(`${fitted(`transship: ${text}`, lookOf(stderr))}\n`);
  try {
    const added = addedFor(argv.slice(2), { ...COMMANDS, ...more });
    const root = await program({ ...surroundings, exit }, added);
    surroundings.onLoaded?.();
    await root.parseAsync(argv);
    if (found !== undefined) stderr.write(`transship: exit code ${exitCode}: ${printable(found)}\n`);
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (stop.aborted) {
      // a command may know better what goes on without it
      const reason: unknown = isFailure(error) && error.cause === stop.reason ? error : stop.reason;
      print(isFailure(reason) ? printable(describeFailure(reason)) : 'stopped');
      return 130;
    }
    print(describe(error).split('\n').map(printable).join('\n'));
    return isFailure(error) ? exitCodeOf(error) : 1;
  }
}

/** INVALID is the caller's, unless it is about the content of an image, or what a server answered. */
function exitCodeOf({ code, context: { image, status } }: Failure): number {
  return code === 'INVALID' && (image !== undefined || status !== undefined) ? 1 : EXIT_CODE[code];
}

/** Also in docs/failures.md. */
export const EXIT_CODE: Readonly<Record<Code, number>> = {
  INVALID: 2,
  ABORTED: 130,
  NOT_FOUND: 1,
  UNAUTHENTICATED: 1,
  DENIED: 1,
  CONFLICT: 1,
  UNSUPPORTED: 1,
  CORRUPT: 1,
  THROTTLED: 1,
  UNAVAILABLE: 1,
  BUG: 1,
};

/** What to add for these arguments: the command that they name, none for the version, otherwise every command. */
function addedFor(args: readonly string[], commands: Commands): Commands[string][] {
  if (args.length === 1 && /^(?:-V|--version)$/.test(args[0] ?? '')) return [];
  const [first = '', second = '', ...others] = args.filter((arg) => !arg.startsWith('-') || arg === '-');
  const isAsked = first === ASKED && (others.length > 0 || args.at(-1)?.startsWith('-') === true);
  const name = first === 'help' || isAsked ? second : first;
  const add = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (add === undefined) return Object.values(commands);
  return isAsked && name !== 'completion'
    ? [add, async () => (await import('../commands/completion.ts')).addCompletion]
    : [add];
}

async function program(surroundings: ProgramSurroundings, added: readonly Commands[string][]): Promise<Command> {
  const { stdout, stderr } = surroundings;
  const helpWidth = stdout.terminal ? Math.min(stdout.columns, MOST_HELP_COLUMNS) : MOST_HELP_COLUMNS;
  const root = new Command('transship')
    .description(
      'Mirrors container images and backs them up as archives: every platform, signature and SBOM, digests unchanged.',
    )
    .version(version)
    .addHelpText('after', fitted(HELP_END, { columns: helpWidth }))
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: (text, write) => write(withMeantCommand(withoutValues(text), root)),
      getOutHelpWidth: () => helpWidth,
      getErrHelpWidth: () => helpWidth,
    })
    .configureHelp({ minWidthToWrap: 20 })
    .showHelpAfterError('(transship COMMAND --help prints more)');
  if (added.length === 0) return root;
  const [{ openContext }, { addHelp }, ...adds] = await Promise.all([
    import('./command-context.ts'),
    import('./command-help.ts'),
    ...added.map(async (load) => load()),
  ]);
  const context = openContext(surroundings, version);
  for (const add of adds) add(root, context);
  addHelp(root);
  for (const command of root.commands) {
    command.exitOverride().showHelpAfterError(`(transship ${command.name()} --help prints more)`);
    for (const below of command.commands)
      below.exitOverride().showHelpAfterError(`(transship ${command.name()} ${below.name()} --help prints more)`);
  }
  return root;
}

/** A usage error without the values that it quotes: the value of a mistyped flag may be credentials. */
function withoutValues(text: string): string {
  return text
    .replace(/(unknown option '(?:--[\w-]*|-\w?))[^]*?'(?=\n|$)/, "$1'")
    .replace(/(option '[^']*') argument '[^]*' is invalid\. /, '$1 is invalid: ')
    .replace(/(too many arguments[^:]*? but got \d+): [^]*\.(?=\n|$)/, '$1.');
}

/** A Failure's own sentence; for anything else also where it happened, since it is a bug. */
function describe(error: unknown): string {
  if (isFailure(error) && error.code !== 'BUG') return describeFailure(error);
  const cause = isFailure(error) ? (error.cause ?? error) : error;
  return `this is a bug, please report it: ${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}`;
}

/** The error of an unknown command with the command that was probably meant; every other error as it is. */
function withMeantCommand(text: string, root: Command): string {
  const word = /^error: unknown command '([^']*)'/.exec(text)?.[1];
  // below a command, commander knows better
  if (word === undefined || root.args[0] !== word) return text;
  const names = root.createHelp().visibleCommands(root);
  const meant = meantCommand(
    word,
    names.flatMap((one) => [one.name()].concat(one.aliases())),
  );
  return meant === undefined ? text : `error: unknown command '${word}'\n(Did you mean ${meant}?)\n`;
}

/** On a terminal that shows them, unless NO_COLOR is set (https://no-color.org); FORCE_COLOR asks for them in a pipe too. */
function hasColours(stream: NodeJS.WriteStream & { readonly fd: number }): boolean {
  const { NO_COLOR, FORCE_COLOR } = process.env;
  if (NO_COLOR !== undefined && NO_COLOR !== '') return false;
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== '0' && FORCE_COLOR !== 'false';
  return isatty(stream.fd) && stream.getColorDepth() > 1;
}

/** The line that a person types after the question. `hidden`: the terminal does not show it. */
async function ask(
  question: string,
  { hidden = false, signal }: { readonly hidden?: boolean; readonly signal: AbortSignal },
): Promise<string> {
  const { createInterface } = await import('node:readline/promises');
  const { Writable } = await import('node:stream');
  // messages go to standard error, so that the result can be redirected
  const output = hidden ? new Writable({ write: (_, __, done) => done() }) : process.stderr;
  using lines = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 });
  // readline writes what it shows, the question too
  if (hidden) process.stderr.write(question);
  using ending = new DisposableStack();
  if (hidden) ending.defer(() => process.stderr.write('\n'));
  const stopped = new Promise<never>((_, reject) => {
    // the terminal is raw while a line is typed: Ctrl-C is a key, and no signal
    lines.once('SIGINT', () => reject(new Failure('ABORTED', 'stopped by Ctrl-C')));
  });
  // Ctrl-D
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  const answered = lines.question(question, { signal });
  // rejects when the input is closed without an answer
  answered.catch(() => undefined);
  return await Promise.race([stopped, ended, answered]);
}

function screen(stream: NodeJS.WriteStream & { readonly fd: number }): Screen {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // a reader that went away (| head) is not a failure of ours, and a full log is not a reason to stop
    if (error.code === 'EPIPE' || stream.fd === process.stderr.fd) return;
    process.stderr.write(`transship: the result could not be written (${error.code})\n`);
    process.exitCode = 1;
  });
  return {
    write: (text) => {
      stream.write(text);
    },
    terminal: isatty(stream.fd),
    get columns() {
      // a terminal that does not know its size has 0
      return stream.columns > 0 ? stream.columns : MOST_HELP_COLUMNS;
    },
    get rows() {
      return stream.rows > 0 ? stream.rows : undefined;
    },
    colour: hasColours(stream),
  };
}
