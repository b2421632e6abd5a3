import { enableCompileCache } from 'node:module';
import type { AddCommand } from './program.ts';
import { setGarbageCollectorFlags } from './gc-flags.ts';
import { stopOnSignals } from './signals.ts';

/** Runs the command that the arguments of this process name, `more` beside the program's own. Sets the exit code. */
export async function startCommandLine(more?: () => Promise<readonly AddCommand[]>): Promise<void> {
  const stop = stopOnSignals();
  setGarbageCollectorFlags();
  // a third of the time that a short command takes is reading the program
  enableCompileCache();
  const [{ runProgram }, commands] = await Promise.all([import('./program.ts'), more?.()]);
  await runProgram(stop, commands);
}
