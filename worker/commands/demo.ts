import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { writeSampleImage } from '../local/sample-image.ts';
import { startStack, type Stack } from '../local/stack.ts';
import { backup } from '../operations/backup.ts';
import type { Ends, OperationOptions } from '../operations/ends.ts';
import { parseLocation } from '../plan/location.ts';
import { mirror, type MirrorResult } from '../operations/mirror.ts';
import { restore } from '../operations/restore.ts';
import type { RunResult } from '../operations/run.ts';
import { verify } from '../operations/verify.ts';
import { Failure } from '../util/failure.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { optionsOf } from './result.ts';
import { formatBytes, formatDigest, formatDuration, formatTable } from './text.ts';

interface DemoFlags extends CommonFlags {
  readonly image?: string;
}

interface Step {
  readonly step: string;
  readonly what: string;
  readonly digest: string;
  /** Bytes that were moved. */
  readonly bytes: number;
  readonly ms: number;
}

export function addDemo(program: Command, context: CommandContext): void {
  const command = program
    .command('demo')
    .summary('back up, mirror, lose and restore an image, on this machine alone')
    .description(
      'Starts the embedded stack, puts an image of two platforms with signatures and an SBOM into its ECR, backs it up, mirrors it, changes a layer, deletes the repository, restores it and verifies every digest. Needs no AWS and no docker.',
    )
    .option('--image <ref>', 'use this image instead: any place that copy takes as its source');
  withCommonFlags(command).action(async (flags: DemoFlags) => {
    const folder = await mkdtemp(join(tmpdir(), 'transship-demo-'));
    try {
      await using stack = await startStack({ folder: join(folder, 'stack') });
      context.setEnvironment(stack.environment);
      // a pipe gets the steps; what moves for each is for a terminal to show
      const shown = { ...flags, quiet: flags.quiet === true || (!context.stderr.terminal && flags.verbose !== true) };
      const steps = await withProgress(context, shown, async ({ report }) => {
        await using ends = context.connect({ report });
        return await runSteps(stack, folder, flags, context, ends, optionsOf(context, {}, report));
      });
      printResult(context, flags, steps, () => describe(steps));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

async function runSteps(
  stack: Stack,
  folder: string,
  flags: DemoFlags,
  context: CommandContext,
  ends: Ends,
  o: OperationOptions,
): Promise<readonly Step[]> {
  const steps: Step[] = [];
  const { image } = flags;
  const step = async (name: string, work: () => Promise<Omit<Step, 'step' | 'ms'>>): Promise<void> => {
    const startedMs = context.clock.now();
    if (flags.quiet !== true && flags.json !== true) context.stderr.write(`${name} …\n`);
    steps.push({ step: name, ...(await work()), ms: context.clock.now() - startedMs });
  };
  const product = `docker://${stack.ecr.registryHost}/product/app`;
  const archives = `s3://${stack.bucket}/`;
  const copyTo = async (from: string, to: string): Promise<MirrorResult> =>
    mirror({ from: parseLocation(from), to: parseLocation(to) }, ends, o);
  const sample = async (version: string): Promise<string> => {
    const made = join(folder, version);
    await writeSampleImage(made, { tag: '1.0', platforms: PLATFORMS, layerBytes: LAYERS, version });
    return `oci:${made}:1.0`;
  };
  const pushed: string[] = [];

  await step(image === undefined ? 'push 1.0' : 'copy in', async () => {
    const result = await copyTo(image ?? (await sample('1')), `${product}:1.0`);
    pushed.push(result.digest);
    return moved(result, `${stack.ecr.registryHost}/product/app:1.0`);
  });
  await step('back up', async () => ranAll(await backup({ from: product, to: archives }, ends, o), archives));
  await step('back up again', async () =>
    ranAll(await backup({ from: product, to: archives }, ends, o), 'nothing to do'),
  );
  await step('mirror', async () =>
    moved(
      await copyTo(`${product}:1.0`, `docker://${stack.otherEcr.registryHost}/product/app:1.0`),
      `${stack.otherEcr.registryHost} (repository created)`,
    ),
  );
  await step('push 1.1', async () => {
    const from = image === undefined ? await sample('2') : `${product}:1.0`;
    const result = await copyTo(from, `${product}:1.1`);
    pushed.push(result.digest);
    return moved(result, image === undefined ? 'one layer of each platform changed' : 'the same image, another tag');
  });
  await step('mirror 1.1', async () =>
    moved(
      await copyTo(`${product}:1.1`, `docker://${stack.otherEcr.registryHost}/product/app:1.1`),
      'only what changed',
    ),
  );
  await step('back up 1.1', async () => ranAll(await backup({ from: product, to: archives }, ends, o), archives));
  await step('lose it', async () => {
    await stack.deleteRepository('product/app');
    return { what: 'the repository is deleted, images and all', digest: '', bytes: 0 };
  });
  await step('restore', async () =>
    ranAll(
      await restore({ from: archives, to: `docker://${stack.ecr.registryHost}` }, ends, o),
      `${stack.ecr.registryHost}, from S3 alone`,
    ),
  );
  for (const [i, tag] of ['1.0', '1.1'].entries()) {
    await step(`verify ${tag}`, async () => {
      const [found] = await verify({ at: `${product}:${tag}`, deep: true }, ends, o);
      const fault =
        found?.faults[0] ??
        (found?.digest === pushed[i] ? undefined : `it is ${found?.digest}, ${pushed[i]} was pushed`);
      if (found === undefined || fault !== undefined)
        throw new Failure('CORRUPT', `the restored ${tag} is not what was pushed: ${fault}`);
      return {
        what: `${found.manifests} manifests and ${found.blobs} blobs hashed, the digest that was pushed`,
        digest: found.digest ?? '',
        bytes: found.hashedBytes,
      };
    });
  }
  return steps;
}

const PLATFORMS = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];
const MIB = 1024 * 1024;
const LAYERS = [28 * MIB, 11 * MIB, 3 * MIB, 256 * 1024];

function moved(result: MirrorResult, what: string): Omit<Step, 'step' | 'ms'> {
  return { what, digest: result.digest, bytes: result.copied?.tallies.copied.bytes ?? 0 };
}

function ranAll(run: RunResult, what: string): Omit<Step, 'step' | 'ms'> {
  const failed = run.items.find((item) => item.failure !== undefined)?.failure;
  if (failed !== undefined) throw failed;
  if (run.faults[0] !== undefined) throw new Failure('BUG', run.faults[0]);
  const copied = run.items.filter((item) => item.outcome === 'copied');
  return {
    what,
    digest: copied.at(-1)?.digest ?? '',
    bytes: copied.reduce((sum, item) => sum + (item.result?.copied?.tallies.copied.bytes ?? 0), 0),
  };
}

function describe(steps: readonly Step[]): string {
  return [
    formatTable(
      ['step', '>moved', '>time', 'digest', ''],
      steps.map(({ step, what, digest, bytes, ms }) => [
        step,
        bytes === 0 ? '-' : formatBytes(bytes),
        formatDuration(ms),
        digest === '' ? '' : formatDigest(digest),
        what,
      ]),
    ),
    '',
    'Every restored byte hashes to the digest that was pushed; signatures and SBOM are back too.',
  ].join('\n');
}
