import { execute } from '../../worker/main/program.ts';

/** What a command printed, and the code with which it exited. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the commands of the program in this process, each as a shell without a terminal does. */
export function commandLine(
  env: Readonly<Record<string, string>>,
  { columns = 120 }: { readonly columns?: number } = {},
): (...args: readonly string[]) => Promise<Ended> {
  return async (...args) => {
    let [stdout, stderr] = ['', ''];
    const code = await execute({
      argv: ['node', 'transship', ...args],
      env,
      stdout: { write: (text) => void (stdout += text), terminal: false, columns },
      stderr: { write: (text) => void (stderr += text), terminal: false, columns },
      stop: new AbortController().signal,
    });
    return { code, stdout, stderr };
  };
}
