import { writeFile } from 'node:fs/promises';
import { InvalidArgumentError, type Command } from 'commander';
import { parseBackupPlace } from './places.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import {
  printResult,
  withCommonFlags,
  withProgress,
  type CommandContext,
  type CommonFlags,
  type KeyFlags,
} from './context.ts';
import { optionsOf } from './result.ts';
import { connectFlags, withS3Flags, withVerifyKeyFlag, type S3Flags } from './sides.ts';
import { counted, countedRepositories } from './text.ts';

interface ReportFlags extends CommonFlags, S3Flags, Pick<KeyFlags, 'verifyKey'> {
  readonly html: string;
  readonly days?: number;
}

const MAX_DAYS = 400;

export function addReport(program: Command, context: CommandContext): void {
  const command = program
    .command('report')
    .summary('write a page about the backups in a place: coverage, ages, growth, failures')
    .description(
      'Reads every snapshot of a place and writes one HTML page that needs nothing else: how old the last complete backup of each repository is and was, what is not backed up, how much was sent by day, and how much content images share. Exits 3 when a snapshot cannot be read.',
    )
    .argument(
      '<place>',
      'a store (store:s3://bucket/prefix/, store:folder) or archives (s3://bucket/prefix/, ./folder/)',
    )
    .requiredOption('--html <file>', 'the page, which is replaced where it exists')
    .option('--days <n>', 'how many days it shows (default: 60)', (value) => {
      const number = Number(value);
      if (Number.isInteger(number) && number >= 1 && number <= MAX_DAYS) return number;
      throw new InvalidArgumentError(`expected a whole number from 1 to ${MAX_DAYS}.`);
    });
  withVerifyKeyFlag(withS3Flags(withCommonFlags(command), { writes: false })).action(
    async (text: string, flags: ReportFlags) => {
      const place = parseBackupPlace(text);
      const { makeReport } = await import('../images/make-report.ts');
      const { reportPage } = await import('../images/report-page.ts');
      const report = await withProgress(context, flags, async ({ report: onEvent }) => {
        await using backends = context.connect({ ...connectFlags(flags), report: onEvent });
        return await makeReport(place, backends, { ...optionsOf(context, {}, onEvent), days: flags.days });
      });
      await writePage(flags.html, reportPage(report));
      const { totals, snapshots, broken } = report;
      printResult(context, flags, { html: flags.html, ...report }, () =>
        [
          `wrote ${flags.html}: ${counted(totals.images, 'image')} in ${countedRepositories(totals.repositories)} from ${counted(snapshots, 'snapshot')}, ${totals.missing} not backed up`,
          ...broken.map((sentence) => `broken: ${sentence}`),
        ].join('\n'),
      );
      if (broken.length > 0)
        context.exit(3, `${counted(broken.length, 'snapshot or record', 'snapshots or records')} broken`);
    },
  );
}

async function writePage(file: string, page: string): Promise<void> {
  try {
    await writeFile(file, page);
  } catch (cause) {
    throw new Failure(
      'INVALID',
      `write the report: ${quote(file)} cannot be written: name a file in a folder that exists`,
      {
        cause,
      },
    );
  }
}
