import { Readable } from 'node:stream';
import type { Surroundings } from '../../worker/main/command-context.ts';
import { execute } from '../../worker/main/program.ts';

/** The output of a command, and its exit code. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface CommandOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly columns?: number;
  /** Stops the command, as a signal of the system does. */
  readonly stop?: AbortSignal;
  /** What the command reads from standard input. */
  readonly stdin?: string;
  /** Called with the output of the command to standard error, as it is written. */
  readonly onStderr?: (text: string) => void;
  /** The person at the terminal. Default: there is no terminal to ask at. */
  readonly ask?: Surroundings['ask'];
}

/** Runs a command of the program in this process, as in a shell without a terminal. */
export async function runCommand(
  args: readonly string[],
  { env, columns = 120, stop = new AbortController().signal, stdin, onStderr, ask }: CommandOptions,
): Promise<Ended> {
  let [stdout, stderr] = ['', ''];
  const code = await execute({
    argv: ['node', 'transship', ...args],
    env,
    stdout: { write: (text) => void (stdout += text), terminal: false, columns },
    stderr: {
      write: (text) => {
        stderr += text;
        onStderr?.(text);
      },
      terminal: false,
      columns,
    },
    stop,
    ...(ask === undefined ? {} : { ask }),
    stdin: stdin === undefined ? undefined : Readable.from([Buffer.from(stdin)]),
  });
  return { code, stdout, stderr };
}

/** Like `runCommand`, with the same environment for each command. */
export function commandLine(
  env: Readonly<Record<string, string>>,
  { columns }: { readonly columns?: number } = {},
): (...args: readonly string[]) => Promise<Ended> {
  return async (...args) => runCommand(args, { env, ...(columns === undefined ? {} : { columns }) });
}
