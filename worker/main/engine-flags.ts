import { setFlagsFromString } from 'node:v8';

/**
 * Sets V8 up for bytes that pass through. To be called when the program is loaded and before it runs: Node has its own modules compiled already, for
 * the flags that V8 begins with, and compiles those that are loaded later anew.
 */
export function setEngineFlags(): void {
  collectOften();
  compileParserOnce();
}

/**
 * Bytes are in buffers that are needed for a moment but are freed only when the garbage collector runs, and how often it runs depends on the little
 * that JavaScript itself allocates. With a young generation that does not grow it runs often and cheaply. Grown to its default, and with full collections begun
 * early because part buffers look like a heap that grows, a GiB that passes through causes some fifty of those, a quarter of all CPU time, and
 * holds 100 MiB more.
 */
function collectOften(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--no-incremental-marking');
}

/**
 * undici's parser of HTTP is WebAssembly, one large function. By default V8 compiles it a second time, with everything that it has, after some
 * ten requests: a fifth of the time in which a small image is copied, and 20 MiB. That makes no request faster. The budget is in bytes of code
 * that ran.
 */
function compileParserOnce(): void {
  setFlagsFromString('--wasm-tiering-budget=1000000000');
}
