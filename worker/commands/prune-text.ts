import type { PruneResult } from '../images/prune.ts';
import { KEEPS_NOTHING, type PlannedItem, type PrunePlan, type RepositoryPlan } from '../retention/plan.ts';
import { describeFailure } from '../util/failure.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { formatBytes, formatDigest, formatTag, printable } from './text.ts';

/** Every item with its reason, a table for each repository, and totals. */
export function describePlan(plan: PrunePlan, look: Look): string {
  return [
    ...plan.repositories.map((one) => describeRepository(one, look)),
    ...withoutArchives(plan),
    describeTotals(plan),
  ].join('\n\n');
}

/** A mistyped prefix has no archives. A pattern that no repository matches is an error before there is a plan. */
function withoutArchives({ places, repositories }: PrunePlan): readonly string[] {
  return repositories.length > 0 ? [] : [`there is no archive below ${printable(places.join(', '))}: check the name`];
}

function describeRepository({ place, items, refused }: RepositoryPlan, look: Look): string {
  const lines = [printable(place)];
  if (refused !== undefined) lines.push(`nothing is deleted here: ${printable(whyOf(refused))}`);
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
        look,
        { shorten: ['item', 'tags'], drop: ['bytes'], wrap: true },
      ),
    );
  return lines.join('\n');
}

function tagsOf({ action, tags, untag = [] }: PlannedItem): string {
  const shown = (action === 'untag' ? untag : tags).map(formatTag);
  return shown.length > 4 ? `${shown.slice(0, 3).join(' ')} and ${shown.length - 3} more` : shown.join(' ');
}

function describeTotals({ totals }: PrunePlan): string {
  const left = totals.left === 0 ? '' : `, ${totals.left} left for the next run`;
  const refused =
    totals.refused === 0 ? '' : `, ${totals.refused === 1 ? '1 repository' : `${totals.refused} repositories`} refused`;
  return [
    `would delete ${itemCount(totals.delete)} of ${formatBytes(totals.bytes)}, untag ${totals.untag}, keep ${totals.keep}${left}${refused}`,
    totals.delete + totals.untag === 0
      ? 'there is nothing to delete'
      : 'nothing was deleted: pass --yes to delete, or --plan-out FILE now and --plan FILE once you have reviewed it',
  ].join('\n');
}

export function describeResult(plan: PrunePlan, { deleted, untagged, gone, bytes, failures }: PruneResult): string {
  const refused = plan.repositories.flatMap((one) =>
    one.refused === undefined ? [] : [`refused: ${printable(one.place)}: ${printable(whyOf(one.refused))}`],
  );
  const { left } = plan.totals;
  return [
    `deleted ${itemCount(deleted)} of ${formatBytes(bytes)}, removed ${untagged === 1 ? '1 tag' : `${untagged} tags`}, kept ${plan.totals.keep}${gone === 0 ? '' : `, ${gone} were gone already`}${left === 0 ? '' : `, ${left} left for the next run`}`,
    ...withoutArchives(plan),
    ...refused,
    ...failures.map(({ failure }) => `failed: ${printable(describeFailure(failure))}`),
  ].join('\n');
}

/** Why nothing is deleted of a repository, and the flag that permits it. */
function whyOf(refused: string): string {
  return refused === KEEPS_NOTHING ? `${refused}: --allow-empty permits that` : refused;
}

function itemCount(count: number): string {
  return count === 1 ? '1 item' : `${count} items`;
}
