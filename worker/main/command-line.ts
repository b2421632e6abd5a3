import { keepCompiled } from './compile-cache.ts';
import type { Commands } from './program.ts';
import { stopOnSignals } from './signals.ts';

/** Runs the command that the arguments of this process name, `more` beside the program's own. Sets the exit code. */
export async function startCommandLine(more?: Commands): Promise<void> {
  const stop = stopOnSignals();
  keepCompiled(process.env);
  const { runProgram } = await import('./program.ts');
  await runProgram(stop, more);
}
