import type { RegistrySettings } from './parse-registry-settings.ts';

/** A member of the settings. `unread` describes the others. */
export type RegistryMember = Exclude<keyof RegistrySettings, 'unread'>;

/** In the order in which they are read and applied: the policy last, since it may deny what the others need. */
export const REGISTRY_MEMBERS = [
  'accountSettings',
  'scanning',
  'signing',
  'repositoryCreationTemplates',
  'pullThroughCacheRules',
  'pullTimeUpdateExclusions',
  'replication',
  'registryPolicy',
] as const satisfies readonly RegistryMember[];
