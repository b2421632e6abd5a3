import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { CostEstimate } from '../costs/costs.ts';
import type { Assumptions } from '../costs/model.ts';
import type { InventorySize } from '../images/inventory-size.ts';
import { parsePlace } from '../oci/place.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { concurrencyOf, optionsOf, withConcurrency, type ConcurrencyFlag } from './result.ts';
import { connectFlags, withSideFlags, type SideFlags } from './sides.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, countedRepositories, formatBytes } from './text.ts';

interface CostFlags extends CommonFlags, SideFlags, ConcurrencyFlag {
  readonly file: string;
  readonly registry?: string;
  readonly assume: readonly string[];
}

const GIB = 1024 ** 3;
const DAYS = 30;

export function addCost(program: Command, context: CommandContext): void {
  const command = program
    .command('cost')
    .summary('estimate what a deployment costs a month')
    .description(
      'Estimates what a deployment with these settings costs a month, in US dollars at list prices of us-east-1, and how it grows: by the formulas of docs/deployment.md#costs, which say what each name means. With --registry, counts what is there: repositories, images, their bytes, and what was pushed within 30 days. What is not known is assumed, as --json shows.',
    )
    .requiredOption('-f, --file <path>', 'the settings of the deployment, such as transship.infra.yaml')
    .option('--registry <place>', 'a registry to count (HOST, HOST/team/*): every image in it counts as backed up')
    .option(
      '--assume <name=number>',
      'instead of what is counted or assumed, such as months=36, changes=2 or wakeups=40 (repeatable)',
      (value: string, before: readonly string[]) => [...before, value],
      [],
    );
  withSideFlags(withConcurrency(withCommonFlags(command)), ['src']).action(async (flags: CostFlags) => {
    const { parseDeployedParts } = await import('../costs/settings.ts');
    const { estimateCosts } = await import('../costs/costs.ts');
    const parts = parseDeployedParts(await readSettings(flags.file), flags.file);
    const assumed = await readAssumptions(flags.assume);
    const inventory = flags.registry === undefined ? undefined : await measure(flags.registry, flags, context);
    const estimate = estimateCosts(parts, { ...assumptionsOf(inventory), ...assumed });
    printResult(context, flags, { ...estimate, inventory }, (look) => describe(estimate, inventory, look));
  });
}

async function measure(registry: string, flags: CostFlags, context: CommandContext): Promise<InventorySize> {
  const place = parsePlace(registry);
  if (place.kind !== 'registry')
    throw new Failure('INVALID', `--registry ${quote(registry)} is not a registry: expected HOST or HOST/team/*`);
  const { measureInventory } = await import('../images/inventory-size.ts');
  return withProgress(context, flags, async ({ report }) => {
    const concurrency = concurrencyOf(context, flags);
    await using backends = context.connect({ ...connectFlags(flags), concurrency, report });
    return await measureInventory(place, backends, optionsOf(context, flags, report));
  });
}

function assumptionsOf(inventory: InventorySize | undefined): Assumptions {
  if (inventory === undefined) return {};
  const { repositories, tags, bytes, pushedTags } = inventory;
  if (tags === 0) return { repositories };
  return {
    repositories,
    images: tags / repositories,
    image_gib: bytes / GIB / tags,
    ...(pushedTags === undefined ? {} : { changes: pushedTags / repositories / DAYS }),
  };
}

async function readAssumptions(pairs: readonly string[]): Promise<Assumptions> {
  const { ASSUMED, isAssumption } = await import('../costs/model.ts');
  const read = pairs.map((pair) => {
    const [, name = '', value = ''] = /^(\w+)=(\d+(?:\.\d+)?)$/.exec(pair) ?? [];
    if (isAssumption(name)) return [name, Number(value)] as const;
    const known = Object.keys(ASSUMED).join(', ');
    throw new Failure('INVALID', `--assume ${quote(pair)}: expected NAME=NUMBER with one of ${known}`);
  });
  return Object.fromEntries(read);
}

async function readSettings(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new Failure('INVALID', `read ${quote(file)}: it cannot be read: name the settings of a deployment`, {
      cause,
    });
  }
}

function describe(estimate: CostEstimate, inventory: InventorySize | undefined, look: Look): string {
  const { assumptions, growth, lines, monthly, years } = estimate;
  const { repositories, images, image_gib, changes, months } = assumptions;
  const counts =
    inventory === undefined
      ? `assumed: ${countedRepositories(repositories)} with ${images} images each of ${image_gib} GiB, ${changes} changes a day in each`
      : `counted: ${counted(inventory.tags, 'tag')} in ${countedRepositories(inventory.repositories)}, ${formatBytes(inventory.bytes)}${
          inventory.pushedTags === undefined
            ? `; assumed: ${changes} changes a day in each, since the registry does not say when tags were pushed`
            : `, ${inventory.pushedTags} pushed within 30 days`
        }`;
  const table = formatTable(
    ['after '.concat(counted(months, 'month')), '>US dollars a month'],
    [...lines.map(({ what, dollars }) => [what, dollarsOf(dollars)]), ['all', dollarsOf(monthly)]],
    look,
  );
  const grows =
    growth === 0
      ? 'prune rules may delete archives: costs stay about as they are while these rules run'
      : `no prune rule deletes archives: S3 costs ${dollarsOf(growth)} more with each month; S3 Standard after 1, 2 and 3 years: ${years.map(dollarsOf).join(', ')}`;
  return [counts, table, grows, 'list prices of us-east-1; free tiers, discounts and ECR itself are left out'].join(
    '\n',
  );
}

function dollarsOf(value: number): string {
  const size = Math.abs(value);
  const text = size >= 10 ? Math.round(size).toLocaleString('en-US') : size.toFixed(2);
  return value < 0 ? `-${text}` : text;
}
