// Where the image of the worker begins: every command of the deployed system, nothing of the embedded stack. It is the first process of its
// container, and so waits for signals before anything else.
import { stopOnSignals } from './signals.ts';

const stop = stopOnSignals();
const { runProgram } = await import('./program.ts');
await runProgram(stop);
