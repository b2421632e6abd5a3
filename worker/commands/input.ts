import { open } from 'node:fs/promises';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { CommandContext } from './context.ts';

/** More than any list or password has. */
const MOST_BYTES = 16 * 1024 * 1024;

/**
 * The text of a file that a flag names, or of standard input for `-`. `what` names it in messages. NOT_FOUND without the file, INVALID
 * for more than 16 MiB and for a terminal.
 */
export async function readInput(
  file: string,
  what: string,
  context: Pick<CommandContext, 'standardInput'>,
): Promise<string> {
  if (file === '-') return context.standardInput(MOST_BYTES);
  try {
    await using handle = await open(file);
    const { size } = await handle.stat();
    if (size > MOST_BYTES) throw new Failure('INVALID', `read ${what} from ${quote(file)}: it has more than 16 MiB`);
    return await handle.readFile('utf8');
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    const why = isMissing ? 'there is no such file' : 'it cannot be read';
    throw new Failure('NOT_FOUND', `read ${what} from ${quote(file)}: ${why}`, { cause });
  }
}
