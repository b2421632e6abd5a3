import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { publish } from '../images/publish.ts';
import { withoutTransport } from '../oci/location.ts';
import { parseObjectPlace, type ObjectPlace } from '../oci/object-place.ts';
import { parseRepository } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printOutcome, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { objectsJson, objectsText } from './objects.ts';
import { concurrencyOf, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withCreateFlags, withS3Flags, withSideFlags, type S3Flags, type SideFlags } from './sides.ts';

interface PublishFlags extends CommonFlags, SideFlags, S3Flags, ConcurrencyFlag {
  readonly force?: boolean;
  readonly dryRun?: boolean;
}

export function addPublish(program: Command, context: CommandContext): void {
  const command = program
    .command('publish')
    .summary('store objects of S3, or files, in a registry as OCI artifacts')
    .description(
      'Stores each object as an artifact, tagged with the sha256 of its bytes, and a snapshot that lists them all with key, content type and metadata, tagged snapshot-TIME and latest. Objects that the last snapshot lists as they are now are not read.',
    )
    .argument('<src>', 's3://bucket/prefix/ or a folder')
    .argument('<dst>', 'docker://host/repository, which nothing else writes to; ECR creates it when it is missing')
    .option('--force', 'also publish where the repository holds snapshots of another bucket or prefix')
    .option('--dry-run', 'compare the list with the last snapshot, and print how many objects would be read');
  withS3Flags(withSideFlags(withCreateFlags(withConcurrency(withCommonFlags(command))), ['dest']), {
    writes: false,
  }).action(async (src: string, dst: string, flags: PublishFlags) => {
    const { force, dryRun } = flags;
    const request = { from: parseObjectPlace(src), to: parseRepository(withoutTransport(dst)), force, dryRun };
    await checkFolder(request.from);
    const startedMs = context.clock.now();
    const result = await withProgress(context, flags, async ({ report }) => {
      const concurrency = concurrencyOf(context, flags);
      await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
      return await publish(request, backends, optionsOf(context, flags, report));
    });
    const seconds = (context.clock.now() - startedMs) / 1000;
    const { snapshot, bytesSent, bytesToRead } = result;
    const moved = bytesToRead === undefined ? 'sent' : 'would be read';
    const lines = snapshot === undefined ? [] : [`${snapshot.tag} ${snapshot.digest}`];
    printOutcome(context, flags, objectsJson(result, seconds), () =>
      objectsText(result, { lines, bytes: bytesToRead ?? bytesSent, moved, seconds }),
    );
    if (result.objects.failed > 0) context.exit(1);
  });
}

/** A folder with a mistyped name has no files, and would be published as one that was emptied. NOT_FOUND, INVALID for a file. */
async function checkFolder(from: ObjectPlace): Promise<void> {
  if (from.transport !== 'folder') return;
  const found = await stat(from.path).catch(() => undefined);
  const context = { side: 'source' } as const;
  if (found === undefined)
    throw new Failure('NOT_FOUND', `publish ${quote(from.path)}: there is no such folder: check the name`, { context });
  if (!found.isDirectory())
    throw new Failure('INVALID', `publish ${quote(from.path)}: it is not a folder: name the folder that holds it`, {
      context,
    });
}
