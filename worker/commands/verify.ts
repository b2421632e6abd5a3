import type { Command } from 'commander';
import { verify, type VerifyResult } from '../images/verify.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { concurrencyOf, incomplete, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withSideFlags, withS3Flags, type S3Flags, type SideFlags } from './sides.ts';
import { formatBytes, formatDigest, formatTable, printable } from './text.ts';

interface VerifyFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly deep?: boolean;
  readonly against?: string;
}

export function addVerify(program: Command, context: CommandContext): void {
  const command = program
    .command('verify')
    .summary('prove that an image is whole')
    .description(
      'Reads every manifest of an image and hashes it, and every blob too: of archives always, of registries with --deep (otherwise it asks whether each is there). In archives that Transship made, every other byte is compared with the plan of the archive. It says `whole` where every byte was checked and all that refers to the image was listed, otherwise `present` (registries) or `blobs whole` (archives) with the reason, and exits 3 when something is wrong.',
    )
    .argument('<ref>', 'an image anywhere, or a prefix of archives ending in "/"')
    .option('--deep', 'read every byte of a registry, not only of archives')
    .option(
      '--against <ref>',
      'also compare with this image, such as the source of a mirror: a fault is another digest, or a signature or SBOM that it has and <ref> does not have; it is the target to the flags below',
    );
  withS3Flags(withSideFlags(withConcurrency(withCommonFlags(command))), { writes: false }).action(
    async (ref: string, flags: VerifyFlags) => {
      const results = await withProgress(context, flags, async ({ report }) => {
        await using backends = context.connect({
          ...connectFlags(flags),
          concurrency: concurrencyOf(context, flags),
          report,
        });
        return await verify(
          { at: ref, deep: flags.deep, against: flags.against },
          backends,
          optionsOf(context, flags, report),
        );
      });
      const faults = results.flatMap((result) =>
        result.faults.map((fault) => `fault: ${result.at}: ${printable(fault)}`),
      );
      printResult(context, flags, results, () =>
        [
          formatTable(
            ['result', 'digest', '>manifests', '>blobs', '>hashed', 'image'],
            results.map((result) => [
              wordOf(result),
              result.digest === undefined ? '' : formatDigest(result.digest),
              String(result.manifests),
              String(result.blobs),
              formatBytes(result.hashedBytes),
              result.at,
            ]),
          ),
          ...results
            .filter(({ faults: found }) => found.length === 0)
            .flatMap(({ at, unchecked }) => unchecked.map((what) => `note: ${at}: ${printable(what)}`)),
          ...results
            .filter((result) => result.foreign.length > 0)
            .map((result) => `${incomplete(result.foreign.length)}: ${result.at}`),
          ...faults,
        ].join('\n'),
      );
      if (faults.length > 0) context.exit(3);
    },
  );
}

/** The result in a word, which claims no more than was checked. */
function wordOf({ at, faults, foreign, complete }: VerifyResult): string {
  if (faults.length > 0) return 'FAULTY';
  if (foreign.length > 0) return 'incomplete';
  if (complete) return 'whole';
  return at.startsWith('docker://') ? 'present' : 'blobs whole';
}
