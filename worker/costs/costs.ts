import { calculate } from './calculate.ts';
import { ASSUMED, FORMULAS, PRICES, type Assumption, type Assumptions, type CostName } from './model.ts';
import type { DeployedParts } from './settings.ts';

/** Every price, assumption and result of the page's formulas, by name. */
export function computeCosts(assumptions: Assumptions): Readonly<Record<CostName | Assumption, number>> {
  const given = { ...ASSUMED, ...assumptions };
  const values = new Map<string, number>([...Object.entries(PRICES), ...Object.entries(given)]);
  for (const [name, formula] of Object.entries(FORMULAS)) values.set(name, calculate(formula, values));
  const valueOf = (name: string): number => values.get(name) ?? 0;
  return Object.fromEntries(
    [...Object.keys(given), ...Object.keys(FORMULAS)].map((name) => [name, valueOf(name)]),
  ) as Record<CostName | Assumption, number>;
}

interface CostLine {
  /** What it is, for people. */
  readonly what: string;
  /** US dollars a month; below 0 is saved. */
  readonly dollars: number;
}

export interface CostEstimate {
  readonly assumptions: Readonly<Record<Assumption, number>>;
  readonly lines: readonly CostLine[];
  /** The sum of all lines: US dollars a month, after `assumptions.months`. */
  readonly monthly: number;
  /** How much more S3 costs with each month, in the class of `bucket.storageClass`. 0: the settings let prune rules delete archives. */
  readonly growth: number;
  /** S3 Standard a month after one, two and three years without a prune rule. */
  readonly years: readonly [number, number, number];
}

/** What the parts of a deployment cost together. */
export function estimateCosts(parts: DeployedParts, more: Assumptions): CostEstimate {
  const all = computeCosts({ ...parts.assumptions, ...more });
  // what prune rules delete stays as an old version first: the bucket is never larger than without them
  const vault = parts.prunes ? Math.min(all.vault, all.vault_steady) : all.vault;
  const lines: CostLine[] = [
    { what: 'archives in S3 Standard', dollars: all.archives },
    { what: 'requests to S3', dollars: all.requests },
    { what: 'workers', dollars: all.tasks },
    { what: 'planner, table and logs', dollars: all.planner + all.table + all.logs },
    { what: 'metrics, alarms, dashboard', dollars: all.watching },
    ...networkOf(parts, all),
    ...(parts.large ? [{ what: 'large workers', dollars: all.large }] : []),
    ...(parts.pullAlarm ? [{ what: 'alarm of unusual pulls', dollars: all.pulls }] : []),
    ...(parts.prunes ? [{ what: 'Cleaner', dollars: all.cleaner }] : []),
    ...(parts.prunes
      ? [{ what: 'prune rules that keep as many images as at the beginning', dollars: -Math.max(0, all.pruned) }]
      : []),
    // both count the same archives: what is pruned is hardly ever in the class long enough to save anything
    ...(parts.isCold && !parts.prunes ? [{ what: 'Glacier Instant Retrieval after 30 days', dollars: -all.cold }] : []),
    ...(parts.vault === undefined ? [] : [{ what: 'vault and its copy', dollars: vault + all.vault_requests }]),
    ...(parts.vault?.tested === true
      ? [{ what: 'restore tests of the whole bucket', dollars: parts.prunes ? all.restore_steady : all.restore_test }]
      : []),
  ];
  const { year_1, year_2, year_3 } = all;
  const assumed = Object.keys(ASSUMED).map((name) => [name, all[name as Assumption]]);
  return {
    assumptions: Object.fromEntries(assumed) as Record<Assumption, number>,
    lines,
    monthly: lines.reduce((total, { dollars }) => total + dollars, 0),
    growth: parts.prunes ? 0 : all.growth * (parts.isCold ? PRICES.s3_cold / PRICES.s3_gb : 1),
    years: [year_1, year_2, year_3],
  };
}

function networkOf({ network }: DeployedParts, all: ReturnType<typeof computeCosts>): readonly CostLine[] {
  switch (network) {
    case 'existing':
      return [];
    case 'public':
      return [{ what: 'public addresses of workers', dollars: all.public - all.sum }];
    case 'own':
      return [
        { what: 'interface endpoints', dollars: all.closed - all.sum },
        ...(all.nat === 0 ? [] : [{ what: 'NAT gateways', dollars: all.own - all.closed }]),
      ];
    default:
      return network satisfies never;
  }
}
