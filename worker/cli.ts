import { enableCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';

// Bytes pass through in buffers that live for a moment but are freed only when the garbage collector comes by, and it comes by the little
// that JavaScript itself allocates. A young generation that does not grow has it come often and cheaply. Grown to its default, and with full
// collections begun early because part buffers look like a heap that grows, a GiB that passes through causes some fifty of those, a quarter
// of all CPU time, and holds 100 MiB more. This has to be said before anything is loaded, so the program itself is another file.
setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--no-incremental-marking');
// a third of the time that a short command takes is reading the program
enableCompileCache();
await import('./program.ts');
