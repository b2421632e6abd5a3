import { isatty } from 'node:tty';
import { Command, CommanderError } from 'commander';
import manifest from '../../package.json' with { type: 'json' };
import { addApply } from '../commands/apply.ts';
import { addBackup } from '../commands/backup.ts';
import { addCleaner } from '../commands/cleaner.ts';
import type { CommandContext } from '../commands/context.ts';
import { addCompletion } from '../commands/completion.ts';
import { addCopy } from '../commands/copy.ts';
import { addEnqueue } from '../commands/enqueue.ts';
import { addExtract } from '../commands/extract.ts';
import { addImport } from '../commands/import.ts';
import { addInspect } from '../commands/inspect.ts';
import type { Screen } from '../commands/progress.ts';
import { addList } from '../commands/list.ts';
import { addPlanner } from '../commands/planner.ts';
import { addPrune } from '../commands/prune.ts';
import { addPublish } from '../commands/publish.ts';
import { addRedrive } from '../commands/redrive.ts';
import { addRestore } from '../commands/restore.ts';
import { addRules } from '../commands/rules.ts';
import { addServe } from '../commands/serve.ts';
import { addReport } from '../commands/report.ts';
import { addSnapshots } from '../commands/snapshots.ts';
import { addStats } from '../commands/stats.ts';
import { addStatus } from '../commands/status.ts';
import { addSync } from '../commands/sync.ts';
import { printable } from '../commands/text.ts';
import { addDiff } from '../commands/diff.ts';
import { addVerify } from '../commands/verify.ts';
import { addWorker } from '../commands/worker.ts';
import { registriesIn } from '../registry/credentials.ts';
import { trustAuthorities } from './authorities.ts';
import { readSettings } from './settings.ts';
import { systemClock } from '../util/clock.ts';
import { tableItems } from '../state/table-items.ts';
import { describeFailure, isFailure, type Code, type Failure } from '../util/failure.ts';
import { startProgram } from './start-program.ts';
import { connect, connectDeleting, connectService, connectState } from './wire.ts';

const { version } = manifest;

const HELP_END = `
Exit codes: 0 done, 1 failed, 2 wrong usage or malformed input, 3 finished and found faults (verify, snapshots, report, status, import, planner --once, cleaner --once), 130 interrupted.
Credentials: as docker and podman keep them, or the file that $REGISTRY_AUTH_FILE names; for ECR and S3 the AWS SDK's own.`;

/** Adds one command to the program. */
export type AddCommand = (program: Command, context: CommandContext) => void;

const COMMANDS: readonly AddCommand[] = [
  addCopy,
  addInspect,
  addVerify,
  addDiff,
  addBackup,
  addSnapshots,
  addReport,
  addRestore,
  addList,
  addStats,
  addServe,
  addPrune,
  addPublish,
  addExtract,
  addSync,
  addApply,
  addImport,
  addRules,
  addEnqueue,
  addStatus,
  addRedrive,
  addWorker,
  addPlanner,
  addCleaner,
  addCompletion,
];

/** Runs the command that the arguments name; those of the deployed system, and `more`. Sets the exit code. `stop` ends it. */
export async function runProgram(stop: AbortSignal, more: readonly AddCommand[] = []): Promise<void> {
  const { argv, env } = process;
  const exitCode = await execute(
    { argv, env, stdout: screen(process.stdout), stderr: screen(process.stderr), stop },
    more,
  );
  if (exitCode !== 0) process.exitCode = exitCode;
}

/** What a program gets from the process that it is. */
export interface Surroundings {
  /** The first two are the program's own. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Screen;
  readonly stderr: Screen;
  readonly stop: AbortSignal;
}

/** As `runProgram`, within these surroundings; the AWS SDK looks at those of the process all the same. Returns the exit code. */
export async function execute(surroundings: Surroundings, more: readonly AddCommand[] = []): Promise<number> {
  const { argv, env, stdout, stderr, stop } = surroundings;
  let exitCode = 0;
  const write = (line: string): void => stdout.write(line);
  try {
    trustAuthorities(env);
    const { concurrency, lookEveryHours } = readSettings(env);
    const context: CommandContext = {
      connect: (options) => connect(readSettings(env), version, options),
      connectDeleting: (options) => connectDeleting(readSettings(env), version, options),
      connectState: (options) => connectState(readSettings(env), options),
      connectService: (options) => connectService(readSettings(env), options),
      knownRegistries: async () => {
        const { authFiles, endpoints } = readSettings(env);
        return [...new Set([...endpoints.keys(), ...(await registriesIn(authFiles))])];
      },
      tableItems: (table) => tableItems({ table, proxies: readSettings(env).proxies, signal: stop }),
      start: (args, options) => startProgram(args, { ...options, signal: stop }),
      setEnvironment: (variables) => Object.assign(process.env, variables),
      runWorker: async (options) => {
        // loaded by this command only, since it takes time
        const { runWorker } = await import('./run-worker.ts');
        await runWorker({ ...options, settings: readSettings(env), version, signal: stop, write });
      },
      runPlanner: async (options) => {
        const { runPlanner } = await import('./run-planner.ts');
        await runPlanner({ ...options, settings: readSettings(env), version, signal: stop, write });
      },
      runCleaner: async (options) => {
        const { cleanEvery } = await import('./run-cleaner.ts');
        await cleanEvery({ ...options, settings: readSettings(env), version, signal: stop, write });
      },
      signal: stop,
      clock: systemClock,
      concurrency,
      lookEveryHours,
      stdout,
      stderr,
      version,
      exit: (code) => {
        exitCode = code;
      },
    };
    await program(context, more).parseAsync(argv);
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (stop.aborted) {
      // a command may know better what goes on without it
      const reason: unknown = isFailure(error) && error.cause === stop.reason ? error : stop.reason;
      stderr.write(`transship: ${isFailure(reason) ? printable(describeFailure(reason)) : 'stopped'}\n`);
      return 130;
    }
    stderr.write(`transship: ${describe(error).split('\n').map(printable).join('\n')}\n`);
    return isFailure(error) ? exitCodeOf(error) : 1;
  }
}

/** INVALID is the caller's, unless it is about the content of an image, or what a server answered. */
function exitCodeOf({ code, context: { image, status } }: Failure): number {
  return code === 'INVALID' && (image !== undefined || status !== undefined) ? 1 : EXIT_CODE[code];
}

const EXIT_CODE: Readonly<Record<Code, number>> = {
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

function program(context: CommandContext, more: readonly AddCommand[]): Command {
  const root = new Command('transship')
    .description(
      'Mirrors container images and backs them up as archives: every platform, signature and SBOM, digests unchanged.',
    )
    .version(context.version)
    .addHelpText('after', HELP_END)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: (text, write) => write(withoutValues(text)),
    })
    .showHelpAfterError('(transship COMMAND --help tells more)');
  for (const add of COMMANDS) add(root, context);
  for (const add of more) add(root, context);
  for (const command of root.commands) {
    command.exitOverride().showHelpAfterError(`(transship ${command.name()} --help tells more)`);
    for (const below of command.commands)
      below.exitOverride().showHelpAfterError(`(transship ${command.name()} ${below.name()} --help tells more)`);
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

function screen(stream: NodeJS.WriteStream & { readonly fd: number }): Screen {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // a reader that went away (| head) is no failure of ours, and a log that is full no reason to stop
    if (error.code === 'EPIPE' || stream.fd === process.stderr.fd) return;
    process.stderr.write(`transship: the result could not be written (${error.code})\n`);
    process.exitCode = 1;
  });
  return {
    write: (text) => {
      stream.write(text);
    },
    terminal: isatty(stream.fd),
    columns: stream.columns ?? 120,
  };
}
