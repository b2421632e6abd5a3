import { Readable } from 'node:stream';
import { execute } from '../../worker/main/program.ts';

/** What a command printed, and the code with which it exited. */
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
  /** Called with what the command prints to standard error, as it prints it. */
  readonly onStderr?: (text: string) => void;
}

/** Runs a command of the program in this process, as a shell without a terminal does. */
export async function runCommand(
  args: readonly string[],
  { env, columns = 120, stop = new AbortController().signal, stdin, onStderr }: CommandOptions,
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
    stdin: stdin === undefined ? undefined : Readable.from([Buffer.from(stdin)]),
  });
  return { code, stdout, stderr };
}

/** As `runCommand`, with the same environment for each command. */
export function commandLine(
  env: Readonly<Record<string, string>>,
  { columns }: { readonly columns?: number } = {},
): (...args: readonly string[]) => Promise<Ended> {
  return async (...args) => runCommand(args, { env, ...(columns === undefined ? {} : { columns }) });
}
