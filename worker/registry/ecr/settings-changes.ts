import { isDeepStrictEqual } from 'node:util';
import type { RepositorySettings } from './repository-settings.ts';

/** A change of one member of a repository's settings. */
export interface SettingsChange {
  readonly member: string;
  /** As JSON; undefined for none. */
  readonly from: string | undefined;
  readonly to: string;
}

/** The members that can change once the repository exists: encryption cannot. */
const MEMBERS = [
  'tagMutability',
  'tagMutabilityExclusions',
  'scanOnPush',
  'tags',
  'lifecyclePolicy',
  'repositoryPolicy',
] as const satisfies readonly (keyof RepositorySettings)[];

/** The changes that `applySettings` makes to `current`. Policies that differ in whitespace only are equal, and tags are added to existing ones. */
export function settingsChanges(current: RepositorySettings, wanted: RepositorySettings): readonly SettingsChange[] {
  const changes: SettingsChange[] = [];
  for (const member of MEMBERS) {
    if (wanted[member] === undefined) continue;
    // they are set with the mutability that they are exceptions of, or not at all
    if (member === 'tagMutabilityExclusions' && wanted.tagMutability === undefined) continue;
    const from = valueOf(current, member);
    const to = member === 'tags' ? { ...current.tags, ...wanted.tags } : valueOf(wanted, member);
    if (isDeepStrictEqual(from, to) || (from === undefined && isNothing(to))) continue;
    changes.push({ member, from: from === undefined ? undefined : JSON.stringify(from), to: JSON.stringify(to) });
  }
  return changes;
}

function valueOf(settings: RepositorySettings, member: (typeof MEMBERS)[number]): unknown {
  const value = settings[member];
  return member.endsWith('Policy') && typeof value === 'string' ? parsedPolicy(value) : value;
}

function isNothing(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

/** The policy as JSON; one that is not JSON is compared and shown as a string. */
export function parsedPolicy(policy: string): unknown {
  try {
    return JSON.parse(policy);
  } catch {
    return policy;
  }
}
