import { createWriteStream, fstatSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { isatty } from 'node:tty';
import type { Bytes } from '../content/content.ts';
import type { Backends, StandardStreams } from '../images/backends.ts';
import { failureOf } from '../objects/files/errno.ts';
import { openFiles } from '../objects/files/store.ts';
import { checkAborted, orAborted, type Abortable } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { Failure } from '../util/failure.ts';

const STDIN = 0;
const STDOUT = 1;

/** The streams of this process. A pipe is kept in a folder of `temporary`, which is removed with `opened`. */
export function standardStreams(
  temporary: Backends['temporary'],
  opened: AsyncDisposableStack,
  report: Report | undefined,
): StandardStreams {
  let input: ReturnType<StandardStreams['input']> | undefined;
  return {
    input: async (options) => {
      // a restore opens an archive more than once, and a pipe can be read once
      input ??= openInput(temporary, opened, report, options);
      return input;
    },
    output: writeOutput,
  };
}

/** All of standard input as text. INVALID for a terminal, and for more than `mostBytes`. */
export async function readStandardInput(
  mostBytes: number,
  { stdin, signal }: Abortable & { readonly stdin?: AsyncIterable<Uint8Array> | undefined },
): Promise<string> {
  if (stdin === undefined && isatty(STDIN))
    throw new Failure('INVALID', 'read standard input: it is a terminal: pipe the text into it');
  const chunks: Uint8Array[] = [];
  let size = 0;
  const read = async (): Promise<string> => {
    for await (const chunk of stdin ?? process.stdin) {
      const bytes = Buffer.from(chunk as Uint8Array);
      size += bytes.byteLength;
      if (size > mostBytes) throw new Failure('INVALID', `read standard input: it has more than ${mostBytes} bytes`);
      chunks.push(bytes);
    }
    return Buffer.concat(chunks).toString('utf8');
  };
  return orAborted(read(), { signal });
}

async function openInput(
  temporary: Backends['temporary'],
  opened: AsyncDisposableStack,
  report: Report | undefined,
  options: Abortable,
): ReturnType<StandardStreams['input']> {
  if (isatty(STDIN))
    throw new Failure('INVALID', 'read standard input: it is a terminal: pipe an archive into it, or name the file');
  // a redirected file can be read in any order as it is
  if (fstatSync(STDIN).isFile()) return { store: openFiles('/dev'), key: 'stdin' };
  const { path, freeBytes = Infinity } = opened.use(await temporary());
  const key = 'standard-input';
  const file = join(path, key);
  report?.({
    type: 'note',
    message: `standard input is kept in ${file} until the end: an archive is not read in the order of its bytes`,
  });
  try {
    const bounded = (body: Bytes): Bytes => atMost(body, freeBytes, path);
    await pipeline(process.stdin, bounded, createWriteStream(file, { flags: 'wx' }), { signal: options.signal });
  } catch (error) {
    checkAborted(options);
    throw failureOf(error, 'write', file);
  }
  return { store: openFiles(path), key };
}

/** `body`, with at least one byte, else INVALID, and at most `limit`, else UNSUPPORTED as soon as there are more. */
async function* atMost(body: Bytes, limit: number, folder: string): Bytes {
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > limit) {
      throw new Failure(
        'UNSUPPORTED',
        `read standard input: it has more than the ${limit} bytes that are free in ${folder}: set TMPDIR to a folder with more space, or name a file`,
      );
    }
    yield chunk;
  }
  if (size === 0)
    throw new Failure('INVALID', 'read standard input: it is empty: the program before it wrote no archive');
}

async function writeOutput(body: Bytes, options: Abortable): Promise<void> {
  if (isatty(STDOUT))
    throw new Failure('INVALID', 'write standard output: it is a terminal: redirect it to a file or a program');
  for await (const chunk of body) {
    if (chunk.byteLength > 0) await orAborted(written(chunk), options);
  }
}

/** Resolves when the chunk has left this process, so that the next one is not read for a reader that is gone. */
async function written(chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(chunk, (error) => {
      if (error instanceof Error) reject(writeFailure(error));
      else resolve();
    });
  });
}

function writeFailure(error: NodeJS.ErrnoException): unknown {
  return error.code === 'EPIPE'
    ? new Failure('UNSUPPORTED', 'write standard output: its reader went away (EPIPE)', { cause: error })
    : failureOf(error, 'write', 'standard output');
}
