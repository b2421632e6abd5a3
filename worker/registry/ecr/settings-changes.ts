import { isDeepStrictEqual } from 'node:util';
import type { RepositorySettings } from './repository-settings.ts';

/** One member of a repository's settings that would become another. */
export interface SettingsChange {
  readonly member: string;
  /** As JSON; undefined for none. */
  readonly from: string | undefined;
  readonly to: string;
}

/** What of settings can be changed once the repository exists: encryption cannot. */
const MEMBERS = [
  'tagMutability',
  'tagMutabilityExclusions',
  'scanOnPush',
  'tags',
  'lifecyclePolicy',
  'repositoryPolicy',
] as const satisfies readonly (keyof RepositorySettings)[];

/** What `applySettings` makes of `current`. Policies that differ in spaces only are the same, and tags are added to those that are there. */
export function settingsChanges(current: RepositorySettings, wanted: RepositorySettings): readonly SettingsChange[] {
  const changes: SettingsChange[] = [];
  for (const member of MEMBERS) {
    if (wanted[member] === undefined) continue;
    const from = valueOf(current, member);
    const to = member === 'tags' ? { ...current.tags, ...wanted.tags } : valueOf(wanted, member);
    if (isDeepStrictEqual(from, to) || (from === undefined && isNothing(to))) continue;
    changes.push({ member, from: from === undefined ? undefined : JSON.stringify(from), to: JSON.stringify(to) });
  }
  return changes;
}

function valueOf(settings: RepositorySettings, member: (typeof MEMBERS)[number]): unknown {
  const value = settings[member];
  return member.endsWith('Policy') && typeof value === 'string' ? parsed(value) : value;
}

function isNothing(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

/** A policy that is not JSON is shown, and compared, as text. */
function parsed(policy: string): unknown {
  try {
    return JSON.parse(policy);
  } catch {
    return policy;
  }
}
