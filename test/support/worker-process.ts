import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** One line that a worker wrote. */
export type Line = Readonly<Record<string, unknown>>;

/** A worker as a process of its own, started as in its image. Disposing kills it. */
export interface WorkerProcess extends AsyncDisposable {
  /** Every line so far, logs and metrics. */
  readonly lines: readonly Line[];
  readonly stderr: string;
  /** The first line of this event so far, or the next one. Rejects when the process exits without one. */
  event(name: string): Promise<Line>;
  kill(signal: NodeJS.Signals): void;
  /** The exit code; undefined when a signal ended it. */
  readonly ended: Promise<number | undefined>;
}

/** Starts `transship worker` by the entry point of its image. */
export function startWorker(
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = ['worker'],
): WorkerProcess {
  const child = spawn(process.execPath, ['worker/main/container.ts', ...args], {
    env: { TRANSSHIP_LOG_LEVEL: 'debug', AWS_EC2_METADATA_DISABLED: 'true', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: Line[] = [];
  const news = new EventTarget();
  let stderr = '';
  let isOver = false;
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  createInterface(child.stdout).on('line', (line) => {
    lines.push(JSON.parse(line) as Line);
    news.dispatchEvent(new Event('line'));
  });
  const ended = once(child, 'close').then(() => {
    isOver = true;
    news.dispatchEvent(new Event('line'));
    return child.exitCode ?? undefined;
  });
  return {
    lines,
    get stderr() {
      return stderr;
    },
    event: async (name) => {
      for (;;) {
        const found = lines.find((line) => line['event'] === name);
        if (found !== undefined) return found;
        if (isOver) throw new Error(`the worker ended without ${name}: ${stderr}${JSON.stringify(lines)}`);
        await once(news, 'line');
      }
    },
    kill: (signal) => void child.kill(signal),
    ended,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
