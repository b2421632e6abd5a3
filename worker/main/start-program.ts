import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { StartedProgram } from '../commands/context.ts';

/**
 * Starts this program once more with these arguments: by the same Node and the same file. `onLine` gets what it writes to stdout. When the
 * signal fires it gets SIGTERM; what it writes to stderr goes to ours.
 */
export function startProgram(
  args: readonly string[],
  options: { readonly onLine: (line: string) => void; readonly signal: AbortSignal },
): StartedProgram {
  const [, file = ''] = process.argv;
  const child = spawn(process.execPath, [...process.execArgv, file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  createInterface(child.stdout).on('line', options.onLine);
  const stop = (): void => void child.kill('SIGTERM');
  options.signal.addEventListener('abort', stop, { once: true });
  const ended = once(child, 'close').then(() => {
    options.signal.removeEventListener('abort', stop);
    return child.exitCode ?? undefined;
  });
  return { kill: (signal) => void child.kill(signal), ended };
}
