/** A place that images are replicated to, from the settings. */
export interface ReplicationTarget {
  readonly region: string;
  /** @default the account of the images */
  readonly account?: string | undefined;
  /** The start of the names of repositories; empty: all repositories. */
  readonly prefixes: readonly string[];
}

/** A rule of ECR's replication configuration. */
export interface ReplicationRule {
  /** Sorted and without duplicates; empty: all repositories. */
  readonly prefixes: readonly string[];
  readonly destinations: readonly { readonly account: string; readonly region: string }[];
}

/**
 * The fewest rules for the settings: destinations with the same prefixes share one. A destination that is named several times gets all prefixes
 * that were given for it. `account` is the account of the images.
 */
export function groupDestinations(targets: readonly ReplicationTarget[], account: string): readonly ReplicationRule[] {
  const places = new Map<string, { account: string; region: string; prefixes: Set<string>; all: boolean }>();
  for (const target of targets) {
    const owner = target.account ?? account;
    const id = `${owner} ${target.region}`;
    const place = places.get(id) ?? { account: owner, region: target.region, prefixes: new Set(), all: false };
    places.set(id, place);
    for (const prefix of target.prefixes) place.prefixes.add(prefix);
    if (target.prefixes.length === 0) place.all = true;
  }
  const rules = new Map<string, { prefixes: readonly string[]; destinations: { account: string; region: string }[] }>();
  for (const place of places.values()) {
    const prefixes = place.all ? [] : [...place.prefixes].sort();
    const id = prefixes.join(' ');
    const rule = rules.get(id) ?? { prefixes, destinations: [] };
    rules.set(id, rule);
    rule.destinations.push({ account: place.account, region: place.region });
  }
  return [...rules.values()];
}
