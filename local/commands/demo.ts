import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { startStack } from '../stack.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext } from '../../worker/commands/context.ts';
import { optionsOf } from '../../worker/commands/result.ts';
import { formatDuration } from '../../worker/commands/text.ts';
import { Demo, type DemoFlags } from './demo-steps.ts';
import type { Step } from './demo-story.ts';

/** All processes have one clock, a push waits less for others, and the job of a dead worker is redelivered sooner than on AWS. */
const ENVIRONMENT = {
  TRANSSHIP_CLOCK_SKEW_SECONDS: '0',
  TRANSSHIP_PUSH_WINDOW_SECONDS: '1',
  TRANSSHIP_VISIBILITY_SECONDS: '15',
};

/** Adds the command `demo`. */
export function addDemo(program: Command, context: CommandContext): void {
  const command = program
    .command('demo')
    .summary('the whole system on this machine alone: rules, queue, workers, a loss and a restore')
    .description(
      'Starts the embedded stack, puts images of two platforms with signatures and SBOMs into its ECR and objects into its S3, applies rules, plans them, lets two worker processes back up, mirror and publish, kills one in the middle of a large backup, plans what a prune would delete, deletes a repository, restores it, extracts the objects and verifies every digest. At the end the whole registry is deleted, and brought back from its snapshot. Needs no AWS and no docker, and takes less than a minute.',
    )
    .option('--image <ref>', 'use this image too: any place that copy takes as its source');
  withCommonFlags(command).action(async (flags: DemoFlags) => {
    const folder = await mkdtemp(join(tmpdir(), 'transship-demo-'));
    try {
      await using stack = await startStack({ folder: join(folder, 'stack') });
      context.setEnvironment({ ...stack.environment, ...ENVIRONMENT });
      // the story has the screen for itself: bars would be drawn over it
      const shown = { ...flags, quiet: flags.quiet === true || flags.verbose !== true, progress: false };
      const steps = await withProgress(context, shown, async ({ report }) => {
        await using backends = context.connect({ report });
        await using service = context.connectService({ report });
        await using demo = new Demo({
          stack,
          folder,
          flags,
          context,
          backends,
          service,
          options: optionsOf(context, {}, report),
        });
        return await demo.run();
      });
      printResult(context, flags, steps, () => describe(steps));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

function describe(steps: readonly Step[]): string {
  const ms = steps.reduce((sum, step) => sum + step.ms, 0);
  return [
    '',
    'A worker was killed, a repository was lost, then the whole registry, and',
    'everything is back: every byte has the digest that was pushed.',
    `${steps.length} steps in ${formatDuration(ms)}.`,
  ].join('\n');
}
