import { readFile, writeFile } from 'node:fs/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { PruneResult } from '../images/prune.ts';
import type { PlannedItem, PrunePlan, RepositoryPlan } from '../retention/plan.ts';
import type { Policy, RepositoryPolicy } from '../retention/policy.ts';
import { describeFailure, Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { optionsOf } from './result.ts';
import { connectFlags, withS3Flags, withSideFlags, type S3Flags, type SideFlags } from './sides.ts';
import { formatBytes, formatDigest, formatTable, printable } from './text.ts';

interface PruneFlags extends CommonFlags, SideFlags, S3Flags {
  readonly repositories?: readonly string[];
  readonly untaggedAfterDays?: number;
  readonly keepLast?: number;
  readonly keepDays?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
  readonly keepTags?: readonly string[];
  readonly keepSemver?: string;
  readonly deleteTags?: readonly string[];
  readonly notPulledForDays?: number;
  readonly requireBackup?: string;
  readonly maxDeletes?: number;
  readonly allowEmpty?: boolean;
  readonly planOut?: string;
  readonly plan?: string;
  readonly yes?: boolean;
}

const COUNTS = [
  ['untagged-after-days', 'delete images without a tag that were pushed more than so many days ago'],
  ['keep-last', 'keep the newest so many images'],
  ['keep-days', 'keep images that were pushed within so many days'],
  ['keep-daily', 'keep the newest image of each of the last so many days that have one'],
  ['keep-weekly', 'the same for weeks'],
  ['keep-monthly', 'the same for months'],
  ['keep-yearly', 'the same for years'],
  ['not-pulled-for-days', 'keep images that were pulled within so many days (ECR)'],
] as const;

export function addPrune(program: Command, context: CommandContext): void {
  const command = program
    .command('prune')
    .summary('delete old images and archives by a policy')
    .description(
      'Plans what goes and what stays, each with its reason, and prints the plan. Deletes nothing unless you pass --yes, or --plan with a plan that you reviewed. Without a flag that chooses images, everything stays. docs/prune.md explains the policy.',
    )
    .argument(
      '<place...>',
      'HOST/repositories*, where "*" stands for any characters; a prefix of archives such as s3://bucket/prefix/; or a folder of archives such as ./backups/',
    )
    .addOption(
      repeated('--repositories <pattern>', 'the repositories that the policy is for (default: all of the place)'),
    );
  for (const [name, what] of COUNTS) command.option(`--${name} <n>`, what, positive);
  command
    .addOption(repeated('--keep-tags <pattern>', 'keep tags that match: a pattern with "*", or a /regular expression/'))
    .option('--keep-semver <range>', 'keep tags whose version is in the range, such as ">=2"')
    .addOption(repeated('--delete-tags <pattern>', 'only tags that match may go'))
    .option(
      '--require-backup <place>',
      'only delete images of which an archive there is whole: every byte of it is read',
    )
    .option('--max-deletes <n>', 'delete so many items at most (default: 1000)', positive)
    .option('--allow-empty', 'also where a repository loses every image')
    .option('--plan-out <file>', 'write the plan to a file, for --plan')
    .addOption(
      new Option('--plan <file>', 'delete what this reviewed plan says; fails when the place has changed').conflicts(
        'yes',
      ),
    )
    .option('--yes', 'delete what the plan says');
  withS3Flags(withSideFlags(withCommonFlags(command), ['dest']), { writes: false }).action(
    async (places: readonly string[], flags: PruneFlags) => prune(places, flags, context),
  );
}

async function prune(places: readonly string[], flags: PruneFlags, context: CommandContext): Promise<void> {
  const { plan, result } = await withProgress(context, flags, async ({ report }) => {
    const { planPlaces } = await import('../images/plan-places.ts');
    const { execute } = await import('../images/prune.ts');
    const options = optionsOf(context, {}, report);
    const connectOptions = { ...connectFlags(flags), concurrency: context.concurrency, report };
    const reviewed = flags.plan === undefined ? undefined : await readPlanFile(flags.plan);
    const { maxDeletes, allowEmpty, requireBackup } = flags;
    const request = { places, policies: [policyOf(flags)], maxDeletes, allowEmpty, requireBackup, reviewed };
    if (flags.yes !== true && reviewed === undefined) {
      await using backends = context.connect(connectOptions);
      const planned = await planPlaces(request, backends, options);
      if (flags.planOut !== undefined) await writePlanFile(flags.planOut, planned);
      return { plan: planned, result: undefined };
    }
    await using backends = context.connectDeleting(connectOptions);
    const planned = await planPlaces(request, backends, options);
    if (flags.planOut !== undefined) await writePlanFile(flags.planOut, planned);
    return { plan: planned, result: await execute(planned, backends, options) };
  });
  printResult(context, flags, { plan, ...(result === undefined ? {} : { result }) }, () =>
    result === undefined ? describePlan(plan) : describeResult(plan, result),
  );
  const refused = plan.repositories.some((repository) => repository.refused !== undefined);
  if (result !== undefined && (refused || result.failures.length > 0)) context.exit(1);
}

function policyOf(flags: PruneFlags): RepositoryPolicy {
  const { repositories = ['*'] } = flags;
  const policy: Policy = {
    untaggedAfterDays: flags.untaggedAfterDays,
    keepLast: flags.keepLast,
    keepDays: flags.keepDays,
    keepDaily: flags.keepDaily,
    keepWeekly: flags.keepWeekly,
    keepMonthly: flags.keepMonthly,
    keepYearly: flags.keepYearly,
    keepTags: flags.keepTags,
    keepSemver: flags.keepSemver,
    deleteTags: flags.deleteTags,
    notPulledForDays: flags.notPulledForDays,
  };
  return { repositories, ...policy };
}

function repeated(flags: string, what: string): Option {
  return new Option(flags, `${what}; may be given more than once`).argParser(
    (value, before: readonly string[] | undefined) => [...(before ?? []), value],
  );
}

function positive(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1) throw new InvalidArgumentError('expected a whole number from 1.');
  return number;
}

async function readPlanFile(file: string): Promise<PrunePlan> {
  const { readPlan } = await import('../retention/plan-file.ts');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new Failure('NOT_FOUND', `the plan in ${quote(file)} cannot be read`, { cause });
  }
  return readPlan(text);
}

async function writePlanFile(file: string, plan: PrunePlan): Promise<void> {
  const { formatPlan } = await import('../retention/plan-file.ts');
  try {
    await writeFile(file, formatPlan(plan));
  } catch (cause) {
    throw new Failure('INVALID', `the plan cannot be written to ${quote(file)}`, { cause });
  }
}

/** Every item with its reason, a table for each repository, and totals. */
function describePlan(plan: PrunePlan): string {
  return [...plan.repositories.map(describeRepository), describeTotals(plan)].join('\n\n');
}

function describeRepository({ place, items, refused }: RepositoryPlan): string {
  const lines = [printable(place)];
  if (refused !== undefined) lines.push(`nothing is deleted here: ${printable(refused)}`);
  if (items.length > 0)
    lines.push(
      formatTable(
        ['action', 'item', 'tags', '>bytes', 'reason'],
        items.map((item) => [
          item.action,
          printable(item.id.includes(':') && !item.id.includes('/') ? formatDigest(item.id) : item.id),
          printable(tagsOf(item)),
          item.bytes === undefined ? '' : formatBytes(item.bytes),
          printable(item.reason),
        ]),
      ),
    );
  return lines.join('\n');
}

function tagsOf({ action, tags, untag = [] }: PlannedItem): string {
  const shown = action === 'untag' ? untag : tags;
  return shown.length > 4 ? `${shown.slice(0, 3).join(' ')} and ${shown.length - 3} more` : shown.join(' ');
}

function describeTotals({ totals }: PrunePlan): string {
  const left = totals.left === 0 ? '' : `, ${totals.left} left for the next run`;
  const refused = totals.refused === 0 ? '' : `, ${totals.refused} repositories refused`;
  return [
    `would delete ${totals.delete} items of ${formatBytes(totals.bytes)}, untag ${totals.untag}, keep ${totals.keep}${left}${refused}`,
    'nothing was deleted: pass --yes to delete, or --plan-out FILE now and --plan FILE once you have reviewed it',
  ].join('\n');
}

function describeResult(plan: PrunePlan, { deleted, untagged, gone, bytes, failures }: PruneResult): string {
  const refused = plan.repositories.flatMap((one) =>
    one.refused === undefined ? [] : [`refused: ${printable(one.place)}: ${printable(one.refused)}`],
  );
  const { left } = plan.totals;
  return [
    `deleted ${deleted} items of ${formatBytes(bytes)}, removed ${untagged} tags, kept ${plan.totals.keep}${gone === 0 ? '' : `, ${gone} were gone already`}${left === 0 ? '' : `, ${left} left for the next run`}`,
    ...refused,
    ...failures.map(({ failure }) => `failed: ${printable(describeFailure(failure))}`),
  ].join('\n');
}
