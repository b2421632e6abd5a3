import { readFile, writeFile } from 'node:fs/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { Backends, OperationOptions } from '../images/backends.ts';
import type { DeletingBackends } from '../images/deletions.ts';
import type { PlanRequest } from '../images/plan-places.ts';
import type { PruneResult } from '../images/prune.ts';
import type { PrunePlan } from '../retention/plan.ts';
import type { Policy } from '../retention/policy.ts';
import type { Access, Config, PruneRule } from '../rules/rule.ts';
import { readConfig } from './apply.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext } from './context.ts';
import type { Look } from './look.ts';
import { describePlan, describeResult } from './prune-text.ts';
import { optionsOf } from './result.ts';
import { pruneStores, type StorePruneFlags } from './prune-store.ts';
import { connectFlags, withS3Flags, withSideFlags } from './sides.ts';

interface PruneFlags extends StorePruneFlags, Policy {
  readonly file?: string;
  readonly rule?: readonly string[];
  readonly repositories?: readonly string[];
  readonly requireBackup?: string;
  readonly maxDeletes?: number;
  readonly allowEmpty?: boolean;
  readonly planOut?: string;
  readonly plan?: string;
}

const COUNTS = [
  ['untagged-after-days', 'delete images without a tag that were pushed more than so many days ago'],
  ['keep-last', 'keep the newest so many images; of a store, snapshots'],
  ['keep-days', 'keep images that were pushed within so many days; of a store, snapshots'],
  ['expire-after-days', 'delete what is older, whatever --keep-last and the other rules by time keep'],
  ['keep-daily', 'keep the newest image, or snapshot, of each of the last so many days that have one'],
  ['keep-weekly', 'the same for weeks'],
  ['keep-monthly', 'the same for months'],
  ['keep-yearly', 'the same for years'],
  ['not-pulled-for-days', 'keep images that were pulled within so many days (ECR)'],
] as const;

export function addPrune(program: Command, context: CommandContext): void {
  const command = program
    .command('prune')
    .summary('delete old images, archives and snapshots by a policy')
    .description(
      'Plans what goes and what stays, each with its reason, and prints the plan. Deletes nothing unless you pass --yes, or --plan with a plan that you reviewed. Without a flag that chooses images, everything stays. For a store the policy counts snapshots, and then deletes the blobs that no snapshot needs; plan files are for registries and archives. docs/prune.md explains the policy.',
    )
    .argument(
      '[place...]',
      'HOST/repositories*, where "*" stands for any characters; a prefix of archives such as s3://bucket/prefix/; a folder of archives such as ./backups/; or a store such as store:s3://bucket/prefix/',
    )
    .option('-f, --file <file>', 'run the prune rules of a rules file here and now, instead of places and a policy')
    .addOption(repeated('--rule <name>', 'only this rule of the file'))
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
      'only delete images that an archive below this place holds; every byte of the archive is read',
    )
    .option(
      '--grace-days <n>',
      'of a store: delete what no snapshot needs when it is older than so many days (default: 7)',
      positive,
    )
    .option('--max-deletes <n>', 'delete so many items at most (default: 1000)', positive)
    .option('--allow-empty', 'delete also where a repository loses every image, or a store has no snapshot')
    .option(
      '--plan-out <file>',
      'write the plan for registries or archives to a file, to review it and pass it to --plan',
    )
    .addOption(
      new Option(
        '--plan <file>',
        'carry out this reviewed plan; needs the same places and policy, and fails when a place has changed',
      ).conflicts('yes'),
    )
    .option('--yes', 'carry out the plan');
  withS3Flags(withSideFlags(withCommonFlags(command), ['dest']), { writes: false }).action(
    async (places: readonly string[], flags: PruneFlags) => prune(places, flags, context),
  );
}

/** The policy of the flags. INVALID for a flag that a store does not have. */
async function storePolicy(flags: PruneFlags): Promise<Policy> {
  const other = NOT_OF_STORES.find((name) => flags[name] !== undefined);
  if (other !== undefined) {
    const flag = other.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new Failure('INVALID', `--${flag} is not for stores: leave it out`);
  }
  const { orderedPolicy } = await import('../rules/prune-policy.ts');
  const { repositories: _, ...policy } = orderedPolicy({ ...flags, repositories: [] });
  return policy;
}

/** One plan to make, and perhaps to carry out. */
interface Wanted {
  /** The rule that asks for it; absent: the flags do. */
  readonly rule?: string;
  readonly request: PlanRequest;
  readonly deletes: boolean;
}

interface Pruned {
  readonly rule?: string | undefined;
  readonly plan: PrunePlan;
  /** Absent: the plan deletes nothing. */
  readonly result?: PruneResult;
}

/** Flags that are about images or archives, and mean nothing for a store. */
const NOT_OF_STORES = ['file', 'rule', 'repositories', 'requireBackup', 'maxDeletes', 'planOut', 'plan'] as const;

async function prune(places: readonly string[], flags: PruneFlags, context: CommandContext): Promise<void> {
  if (places.some((place) => place.startsWith('store:')))
    return pruneStores(places, await storePolicy(flags), flags, context);
  if (flags.graceDays !== undefined) throw new Failure('INVALID', '--grace-days is for stores: leave it out');
  const { wanted, access } = await wantedBy(places, flags, context);
  const pruned = await withProgress(context, flags, async ({ report }) => {
    const connectOptions = { ...connectFlags(flags), access, concurrency: context.concurrency, report };
    const options = optionsOf(context, {}, report);
    if (!wanted.some(({ deletes }) => deletes)) {
      await using backends = context.connect(connectOptions);
      return await planEach(wanted, flags, backends, options);
    }
    await using backends = context.connectDeleting(connectOptions);
    return await planEach(wanted, flags, backends, options, backends);
  });
  const [only] = pruned;
  printResult(context, flags, flags.file === undefined && only !== undefined ? only : { rules: pruned }, (look) =>
    pruned.map((one) => describe(one, look)).join('\n\n'),
  );
  if (pruned.some(hasFailed)) context.exit(1);
}

async function planEach(
  wanted: readonly Wanted[],
  flags: PruneFlags,
  backends: Backends,
  options: OperationOptions,
  deleting?: DeletingBackends,
): Promise<readonly Pruned[]> {
  const { planPlaces } = await import('../images/plan-places.ts');
  const { execute } = await import('../images/prune.ts');
  const pruned: Pruned[] = [];
  for (const { rule, request, deletes } of wanted) {
    const plan = await planPlaces(request, backends, options);
    if (flags.planOut !== undefined) await writePlanFile(flags.planOut, plan);
    const result = deletes && deleting !== undefined ? await execute(plan, deleting, options) : undefined;
    pruned.push({ ...(rule === undefined ? {} : { rule }), plan, ...(result === undefined ? {} : { result }) });
  }
  return pruned;
}

/** What the flags ask for: one plan of places, or one for each rule of a file. */
async function wantedBy(
  places: readonly string[],
  flags: PruneFlags,
  context: CommandContext,
): Promise<{ readonly wanted: readonly Wanted[]; readonly access?: Access }> {
  const { orderedPolicy, POLICY_KEYS } = await import('../rules/prune-policy.ts');
  const reviewed = flags.plan === undefined ? undefined : await readPlanFile(flags.plan);
  const deletes = flags.yes === true || reviewed !== undefined;
  const { allowEmpty } = flags;
  if (flags.file === undefined) {
    if (places.length === 0) throw withoutPlace(reviewed);
    const { maxDeletes, requireBackup, repositories = ['*'] } = flags;
    const policies = [orderedPolicy({ ...flags, repositories })];
    const request = { places, policies, maxDeletes, allowEmpty, requireBackup, reviewed };
    return { wanted: [{ request, deletes }] };
  }
  if (
    places.length > 0 ||
    [...POLICY_KEYS, 'repositories', 'requireBackup', 'maxDeletes'].some((name) => name in flags)
  )
    throw new Failure('INVALID', 'places and policies come from the file: pass none beside --file');
  const nowMs = context.clock.now();
  const config = await readConfig(flags.file, nowMs);
  const rules = chosenRules(config, flags).filter((rule) => (rule.expiresAtMs ?? Infinity) > nowMs);
  if (rules.length !== 1 && (flags.planOut !== undefined || reviewed !== undefined))
    throw new Failure('INVALID', 'a plan file holds one plan: choose one rule with --rule');
  const wanted = rules.map(({ name, at, policies, maxDeletes, requireBackup, dryRun }) => ({
    rule: name,
    request: { places: at, policies, maxDeletes, allowEmpty, requireBackup, reviewed },
    deletes: deletes && !dryRun,
  }));
  return { wanted, access: config.registries };
}

function withoutPlace(reviewed: PrunePlan | undefined): Failure {
  return new Failure(
    'INVALID',
    reviewed === undefined
      ? 'name a place to prune, or a rules file with --file'
      : `name the places that the plan was made for, and pass the same policy flags or --file: transship prune ${reviewed.places.join(' ')} … --plan FILE`,
  );
}

/** NOT_FOUND for a rule that the file does not have, or that does not prune. */
function chosenRules({ rules }: Config, { rule: names, file }: PruneFlags): readonly PruneRule[] {
  const pruning = rules.filter((rule) => rule.kind === 'prune');
  const missing = names?.find((name) => !pruning.some((rule) => rule.name === name));
  if (missing !== undefined) throw new Failure('NOT_FOUND', `${quote(file)} has no rule ${quote(missing)} that prunes`);
  const chosen = names === undefined ? pruning : pruning.filter(({ name }) => names.includes(name));
  if (chosen.length === 0) throw new Failure('NOT_FOUND', `${quote(file)} has no rule that prunes`);
  return chosen;
}

/** Whether something could not be deleted, or could not be planned: a repository that is refused. */
function hasFailed({ plan, result }: Pruned): boolean {
  return plan.totals.refused > 0 || (result?.failures.length ?? 0) > 0;
}

function describe({ rule, plan, result }: Pruned, look: Look): string {
  const text = result === undefined ? describePlan(plan, look) : describeResult(plan, result);
  return rule === undefined ? text : `rule ${rule}\n${text}`;
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
