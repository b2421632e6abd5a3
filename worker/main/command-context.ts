import type { CommandContext } from '../commands/context.ts';
import type { Screen } from '../commands/screen.ts';
import { registriesIn } from '../registry/credentials.ts';
import { tableItems } from '../state/table-items.ts';
import { systemClock } from '../util/clock.ts';
import { trustAuthorities } from './authorities.ts';
import { readSettings } from './settings.ts';
import { readStandardInput } from './standard-streams.ts';
import { startProgram } from './start-program.ts';
import { connect, connectDeleting, connectService, connectState } from './wire.ts';

/** What the program gets from its process. */
export interface Surroundings {
  /** The first two are the program's own. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Screen;
  readonly stderr: Screen;
  /** Asks the person at the terminal. Default: there is no terminal. */
  readonly ask?: CommandContext['ask'];
  readonly stop: AbortSignal;
  /** Default: that of the process. */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  /** Called when the command is loaded, before it runs. */
  readonly onLoaded?: () => void;
}

/** The same, and what the program gives back to its process. */
export interface ProgramSurroundings extends Surroundings {
  readonly exit: CommandContext['exit'];
}

/** What commands get from the process around them. INVALID for a malformed environment. */
export function openContext(surroundings: ProgramSurroundings, version: string): CommandContext {
  const { env, stdout, stderr, ask, stop, stdin, exit } = surroundings;
  trustAuthorities(env);
  const { concurrency, lookEveryHours } = readSettings(env);
  const write = (line: string): void => stdout.write(line);
  return {
    connect: (options) => connect(readSettings(env), version, options),
    connectDeleting: (options) => connectDeleting(readSettings(env), version, options),
    connectState: (options) => connectState(readSettings(env), options),
    connectService: (options) => connectService(readSettings(env), options),
    knownRegistries: async () => {
      const { authFiles, endpoints } = readSettings(env);
      return [...new Set([...endpoints.keys(), ...(await registriesIn(authFiles))])];
    },
    tableItems: (table) => tableItems({ table, proxies: readSettings(env).proxies, signal: stop }),
    login: async (request) => {
      const { login } = await import('./login.ts');
      return login(request, readSettings(env), { version, signal: stop });
    },
    logout: async (request) => {
      const { logout } = await import('./login.ts');
      return logout(request, readSettings(env), { signal: stop });
    },
    standardInput: (mostBytes) => readStandardInput(mostBytes, { stdin, signal: stop }),
    start: (args, options) => startProgram(args, { ...options, signal: stop }),
    setEnvironment: (variables) => Object.assign(process.env, variables),
    runWorker: async (options) => {
      // loaded by its command only, since it takes time
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
    ask,
    version,
    exit,
  };
}
