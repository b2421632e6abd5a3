import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { CHECKOUT, type Environment } from '../support/interop-process.ts';

export interface Measured {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  readonly peakMib: number;
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
}

/** Runs until it exits. Wall and CPU seconds are the shell's own, the peak is the kernel's high-water mark. */
export async function measure(run: Command): Promise<Measured> {
  const shell = spawn('bash', ['-c', 'TIMEFORMAT="%R %U %S"; time "$@"', 'bash', run.command, ...run.args], {
    env: { ...run.env },
    cwd: CHECKOUT,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  shell.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const ended = once(shell, 'close');
  let peakKib = 0;
  while (shell.exitCode === null && shell.signalCode === null) {
    for (const pid of children(shell.pid ?? 0)) peakKib = Math.max(peakKib, highWater(pid));
    await delay(10);
  }
  await ended;
  const times = /([\d.]+) ([\d.]+) ([\d.]+)\s*$/.exec(stderr);
  if (shell.exitCode !== 0 || times === null) throw new Error(`${run.command} ${run.args.join(' ')}:\n${stderr}`);
  const [wall = 0, user = 0, system = 0] = times.slice(1).map(Number);
  return { wallSeconds: wall, cpuSeconds: user + system, peakMib: peakKib / 1024 };
}

function children(pid: number): readonly number[] {
  try {
    const found = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return found === '' ? [] : found.split(' ').map(Number);
  } catch {
    return []; // it has just ended
  }
}

function highWater(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0; // it has just ended
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
