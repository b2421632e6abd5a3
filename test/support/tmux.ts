import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { Environment } from './interop-process.ts';

const execute = promisify(execFile);

/** A shell in a terminal of tmux, which draws what a person would see. Disposing ends both. */
export interface Terminal extends AsyncDisposable {
  /** Types a command, waits until it has ended, and returns everything that it left on the screen and above it. */
  run(command: string): Promise<string>;
  /** Types a command, and waits until the screen shows something. */
  begin(command: string, shown: RegExp): Promise<string>;
  /** Waits until the screen shows something. Returns the screen. */
  until(shown: RegExp): Promise<string>;
  /** Types a line, and waits until the screen shows something. */
  enter(line: string, shown: RegExp): Promise<string>;
  /** Types letters, without waiting for anything. */
  type(letters: string): Promise<void>;
  resize(columns: number): Promise<void>;
  /** Presses keys by the names of tmux, such as `C-c`, and waits for the prompt. */
  press(key: string): Promise<string>;
  /** The screen, with the sequences of colours. */
  coloured(): Promise<string>;
}

let terminals = 0;

interface TerminalOptions {
  readonly columns: number;
  readonly rows?: number;
  readonly env: Environment;
  /** A folder of its own. */
  readonly folder: string;
}

/** Opens a terminal with a shell without settings of a user. */
export async function openTerminal({ columns, rows = 40, env, folder }: TerminalOptions): Promise<Terminal> {
  // a name of its own: the server of an earlier terminal may still be ending at the same one
  const socket = join(folder, `tmux-${++terminals}`);
  const tmux = async (...args: readonly string[]): Promise<string> =>
    (await execute('tmux', ['-S', socket, '-f', '/dev/null', ...args], { env })).stdout;
  const size = ['-x', String(columns), '-y', String(rows)];
  // the shell signals when it is ready for the next command
  const shell = [
    'env',
    `PROMPT_COMMAND=tmux -S ${socket} wait-for -S prompt`,
    'PS1=$ ',
    'bash',
    '--norc',
    '--noprofile',
  ];
  await tmux('new-session', '-d', ...size, ...shell, ';', 'set-option', '-g', 'status', 'off');
  const watcher = spawn('tmux', ['-S', socket, '-C', 'attach', '-r', '-f', 'ignore-size'], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const changes = createInterface(watcher.stdout);
  const screen = async (): Promise<string> => (await tmux('capture-pane', '-p', '-S', '-')).trimEnd();
  const until = async (shown: RegExp): Promise<string> => {
    for (;;) {
      const changed = once(changes, 'line');
      const text = await screen();
      if (shown.test(text)) return text;
      await changed;
    }
  };
  /** The shell signals just before it writes its prompt; input typed in between would be shown twice. */
  const answered = async (): Promise<string> => {
    await tmux('wait-for', 'prompt');
    return (await until(/(?:^|\n)\$$/)).replace(/\n?\$$/, '');
  };
  const type = async (command: string): Promise<void> => {
    await tmux('send-keys', '-l', 'clear');
    await tmux('send-keys', 'Enter');
    await answered();
    await tmux('clear-history');
    await tmux('send-keys', '-l', command);
    await tmux('send-keys', 'Enter');
  };
  await answered();
  return {
    run: async (command) => {
      await type(command);
      return answered();
    },
    begin: async (command, shown) => {
      await type(command);
      return until(shown);
    },
    until,
    enter: async (line, shown) => {
      await tmux('send-keys', '-l', line);
      await tmux('send-keys', 'Enter');
      return until(shown);
    },
    type: async (letters) => void (await tmux('send-keys', '-l', letters)),
    resize: async (width) => void (await tmux('resize-window', '-x', String(width), '-y', String(rows))),
    press: async (key) => {
      await tmux('send-keys', key);
      return answered();
    },
    coloured: () => tmux('capture-pane', '-p', '-e', '-S', '-'),
    [Symbol.asyncDispose]: async () => {
      const closed = once(watcher, 'close');
      await tmux('kill-server');
      await closed;
    },
  };
}
