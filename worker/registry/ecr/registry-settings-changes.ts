import { isDeepStrictEqual } from 'node:util';
import type { RegistrySettings } from './parse-registry-settings.ts';
import { REGISTRY_MEMBERS, type RegistryMember } from './registry-settings.ts';
import { parsedPolicy, type SettingsChange } from './settings-changes.ts';

/** A change of one setting of a registry. `member` names the part too, where a member has several: `pullThroughCacheRules docker-hub`. */
export interface RegistrySettingsChange extends SettingsChange {
  /** What `applyRegistrySettings` makes this change alone of. */
  readonly settings: RegistrySettings;
}

/**
 * The changes that `applyRegistrySettings` makes to `current`, in its order. Templates, cache rules, account settings and exclusions are
 * compared one by one, and those that `wanted` does not have stay as they are. Policies that differ in whitespace only are equal. What is as
 * every new registry has it counts as nothing, so `from` is undefined for it.
 */
export function registrySettingsChanges(
  current: RegistrySettings,
  wanted: RegistrySettings,
): readonly RegistrySettingsChange[] {
  return REGISTRY_MEMBERS.flatMap((member) => {
    const before = new Map(partsOf(current, member).map((part) => [part.name, part]));
    return partsOf(wanted, member)
      .filter(({ name, value }) => !isDeepStrictEqual(before.get(name)?.value, value))
      .map(({ name, value, settings }) => {
        const from = before.get(name);
        const isNew = from === undefined || isDefault(from.settings);
        return {
          member: name,
          from: isNew ? undefined : JSON.stringify(from.value),
          to: JSON.stringify(value),
          settings,
        };
      });
  });
}

/** A part of a member that is set alone. */
interface Part {
  readonly name: string;
  /** What is compared and shown. */
  readonly value: unknown;
  readonly settings: RegistrySettings;
}

function partsOf(all: RegistrySettings, member: RegistryMember): readonly Part[] {
  switch (member) {
    case 'accountSettings':
      return Object.entries(all.accountSettings ?? {}).map(([name, value]) => ({
        name: `${member} ${name}`,
        value,
        settings: { accountSettings: { [name]: value } },
      }));
    case 'repositoryCreationTemplates':
      return (all.repositoryCreationTemplates ?? []).map((template) => ({
        name: `${member} ${template.prefix}`,
        value: withParsedPolicies(template),
        settings: { repositoryCreationTemplates: [template] },
      }));
    case 'pullThroughCacheRules':
      return (all.pullThroughCacheRules ?? []).map((rule) => ({
        name: `${member} ${rule.ecrRepositoryPrefix}`,
        value: rule,
        settings: { pullThroughCacheRules: [rule] },
      }));
    case 'pullTimeUpdateExclusions':
      return (all.pullTimeUpdateExclusions ?? []).map((principal) => ({
        name: `${member} ${principal}`,
        value: principal,
        settings: { pullTimeUpdateExclusions: [principal] },
      }));
    case 'registryPolicy': {
      const { registryPolicy } = all;
      if (registryPolicy === undefined) return [];
      return [{ name: member, value: parsedPolicy(registryPolicy), settings: { registryPolicy } }];
    }
    case 'replication':
    case 'scanning':
    case 'signing': {
      const value = all[member];
      return value === undefined ? [] : [{ name: member, value, settings: { [member]: value } }];
    }
    default:
      return member satisfies never;
  }
}

type Template = NonNullable<RegistrySettings['repositoryCreationTemplates']>[number];

function withParsedPolicies(template: Template): unknown {
  const { repositoryPolicy, lifecyclePolicy, ...others } = template;
  return {
    ...others,
    ...(repositoryPolicy === undefined ? {} : { repositoryPolicy: parsedPolicy(repositoryPolicy) }),
    ...(lifecyclePolicy === undefined ? {} : { lifecyclePolicy: parsedPolicy(lifecyclePolicy) }),
  };
}

/** Whether a registry has these when nothing was set. */
function isDefault({ scanning, accountSettings }: RegistrySettings): boolean {
  if (scanning !== undefined) return scanning.scanType === 'BASIC' && scanning.rules.length === 0;
  return accountSettings !== undefined && isDeepStrictEqual(accountSettings, { BLOB_MOUNTING: 'DISABLED' });
}
