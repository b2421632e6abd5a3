import { InvalidArgumentError, Option, type Command } from 'commander';
import type { CommandContext } from './context.ts';

interface WorkerFlags {
  readonly slots?: number;
  readonly large?: boolean;
}

export function addWorker(program: Command, context: CommandContext): void {
  program
    .command('worker')
    .summary('do the jobs of the queue, until it is stopped')
    .description(
      'Takes jobs from the queue that $TRANSSHIP_QUEUE_URL names and does them, until it gets SIGTERM or SIGINT: then it gives unfinished jobs back at once and ends with 0, or with 1 after 20 seconds where a service does not answer; a second signal ends it on the spot, and loses nothing but time. Writes lines of JSON to stdout: logs, and metrics as docs/metrics.md has them. With $TRANSSHIP_HEALTH_PORT it answers health checks on loopback.',
    )
    .addOption(new Option('--slots <n>', 'jobs at once (default: $TRANSSHIP_SLOTS, or 2)').argParser(parseSlots))
    .option('--large', 'does large jobs only, from the queue that $TRANSSHIP_LARGE_QUEUE_URL names')
    .action(async ({ slots, large }: WorkerFlags) => context.runWorker({ slots, large }));
}

function parseSlots(text: string): number {
  const slots = Number(text);
  if (Number.isInteger(slots) && slots >= 1 && slots <= 64) return slots;
  throw new InvalidArgumentError('a whole number from 1 to 64 is expected');
}
