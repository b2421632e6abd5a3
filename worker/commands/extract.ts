import type { Command } from 'commander';
import { extract } from '../images/extract.ts';
import { parseLocation } from '../oci/location.ts';
import { parseObjectPlace } from '../oci/object-place.ts';
import type { Reference } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printOutcome, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { objectsJson, objectsText } from './objects.ts';
import { concurrencyOf, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withS3Flags, withSideFlags, type S3Flags, type SideFlags } from './sides.ts';

interface ExtractFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly force?: boolean;
  readonly dryRun?: boolean;
}

export function addExtract(program: Command, context: CommandContext): void {
  const command = program
    .command('extract')
    .summary('write what publish or oras push stored in a registry to a folder or to S3')
    .description(
      'Writes the objects of a snapshot with their names, to S3 with their content types and metadata too; or the one object or the titled layers of another artifact. What is there with the same bytes is left alone.',
    )
    .argument(
      '<src>',
      'docker://host/repository for the newest snapshot, or with :snapshot-TIME, :SHA256 of an object, or @digest',
    )
    .argument('<dst>', 'a folder or s3://bucket/prefix/; nothing is written outside of it')
    .option('--force', 'replace files and objects that have other bytes')
    .option('--dry-run', 'look at both sides, and print what would be written');
  withS3Flags(withSideFlags(withConcurrency(withCommonFlags(command)), ['src']), { writes: true }).action(
    async (src: string, dst: string, flags: ExtractFlags) => {
      const { force, dryRun } = flags;
      const request = { from: referenceOf(src), to: parseObjectPlace(dst), force, dryRun };
      const startedMs = context.clock.now();
      const result = await withProgress(context, flags, async ({ report }) => {
        const concurrency = concurrencyOf(context, flags);
        await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
        return await extract(request, backends, optionsOf(context, flags, report));
      });
      const seconds = (context.clock.now() - startedMs) / 1000;
      const { digest, bytesWritten: bytes } = result;
      printOutcome(context, flags, objectsJson(result, seconds), () =>
        objectsText(result, {
          lines: [`digest ${digest}`],
          bytes,
          moved: dryRun === true ? 'would be written' : 'written',
          seconds,
        }),
      );
      if (result.objects.failed > 0) context.exit(1);
    },
  );
}

function referenceOf(text: string): Reference {
  const location = parseLocation(text);
  if (location.transport === 'docker') return location.reference;
  throw new Failure(
    'INVALID',
    `${quote(text)} is not in a registry: expected docker://host/repository, which may end in :tag or @digest`,
  );
}
