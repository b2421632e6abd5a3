// Where the image of the worker begins: every command of the deployed system, nothing of the embedded stack. It is the first process of its
// container, and so waits for signals before anything else.
import { stopOnSignals } from './signals.ts';
import { setGarbageCollectorFlags } from './gc-flags.ts';

const stop = stopOnSignals();
setGarbageCollectorFlags();
const { runProgram } = await import('./program.ts');
await runProgram(stop);
