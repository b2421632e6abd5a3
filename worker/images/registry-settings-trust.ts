import type { EcrHost } from '../oci/ecr-host.ts';
import { describeFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import { canonicalPolicy, foreignGrants } from './foreign-grants.ts';
import { listOf } from './policy.ts';
import type { SettingsDocument } from './write-settings.ts';

/** Gets what is left out of settings, and why. */
type LeftOut = (what: string, why: string) => void;
type Item = Readonly<Record<string, unknown>>;

const HOW = 'pass --allow-foreign-grants to restore it';

/**
 * The settings of a registry as they can be restored to the registry `here`. Nothing vouches for settings: any process that may write to the backup
 * may have written them. So what gives other accounts images or access is left out unless `allowForeign`: destinations of replication, roles,
 * secrets, signing profiles, principals, policies. What cannot work here is left out anyhow: replication to `here` itself, and keys of other accounts
 * and Regions, in whose place ECR's own key encrypts. Malformed settings stay: applying them fails with the reason.
 */
export function withoutForeignParts(
  settings: SettingsDocument,
  here: EcrHost,
  allowForeign: boolean,
  leftOut: LeftOut,
): SettingsDocument {
  const changed: Record<string, unknown> = {};
  const change = (member: string, work: (items: readonly Item[]) => readonly unknown[]): void => {
    const items = settings[member];
    if (!Array.isArray(items) || !items.every(isRecord)) return;
    const kept = work(items);
    changed[member] = kept.length === 0 ? undefined : kept;
  };
  const isOwn = (arn: unknown): boolean => typeof arn !== 'string' || arn.split(':')[4] === here.account;
  const keepOwn = (what: string, arns: readonly unknown[]): boolean => {
    const foreign = arns.find((arn) => !isOwn(arn));
    if (foreign === undefined || allowForeign) return true;
    leftOut(`${what} was left out`, `it names ${quote(foreign)}, outside account ${here.account}; ${HOW}`);
    return false;
  };
  change('replication', (rules) => replicationHere(rules, here, allowForeign, leftOut));
  change('signing', (rules) =>
    rules.filter(({ signingProfileArn }) => keepOwn('a rule of signing', [signingProfileArn])),
  );
  change('pullThroughCacheRules', (rules) =>
    rules.filter(({ ecrRepositoryPrefix, credentialArn, customRoleArn }) =>
      keepOwn(`pullThroughCacheRules ${String(ecrRepositoryPrefix)}`, [credentialArn, customRoleArn]),
    ),
  );
  change('repositoryCreationTemplates', (templates) =>
    templates
      .filter(({ prefix, customRoleArn }) => keepOwn(`repositoryCreationTemplates ${String(prefix)}`, [customRoleArn]))
      .map((template) => templateHere(template, here, allowForeign, leftOut)),
  );
  const principals = settings['pullTimeUpdateExclusions'];
  if (Array.isArray(principals)) {
    const kept = principals.filter((arn) => keepOwn('an exclusion of pull times', [arn]));
    changed['pullTimeUpdateExclusions'] = kept.length === 0 ? undefined : kept;
  }
  const policy = settings['registryPolicy'];
  if (typeof policy === 'string')
    changed['registryPolicy'] = policyHere('the policy', policy, here, allowForeign, leftOut);
  const all = Object.entries({ ...settings, ...changed });
  return Object.fromEntries(all.filter(([, value]) => value !== undefined));
}

function replicationHere(
  rules: readonly Item[],
  here: EcrHost,
  allowForeign: boolean,
  leftOut: LeftOut,
): readonly Item[] {
  return rules
    .map((rule) => {
      const destinations = listOf(rule['destinations']).filter((destination) => {
        if (!isRecord(destination)) return true;
        const { region, registryId } = destination;
        const name = `replication to ${String(registryId)} in ${String(region)}`;
        if (registryId === here.account && region === here.region) {
          leftOut(`${name} was left out`, 'it is this registry');
          return false;
        }
        if (registryId === here.account || allowForeign) return true;
        leftOut(`${name} was left out`, `it sends images to an account other than ${here.account}; ${HOW}`);
        return false;
      });
      return { ...rule, destinations };
    })
    .filter(({ destinations }) => destinations.length > 0);
}

function templateHere(template: Item, here: EcrHost, allowForeign: boolean, leftOut: LeftOut): Item {
  const name = `repositoryCreationTemplates ${String(template['prefix'])}`;
  const { repositoryPolicy, encryptionConfiguration, ...others } = template;
  const policy =
    typeof repositoryPolicy === 'string'
      ? policyHere(`the policy of ${name}`, repositoryPolicy, here, allowForeign, leftOut)
      : repositoryPolicy;
  return {
    ...others,
    ...(encryptionConfiguration === undefined
      ? {}
      : { encryptionConfiguration: encryptionHere(name, encryptionConfiguration, here, leftOut) }),
    ...(policy === undefined ? {} : { repositoryPolicy: policy }),
  };
}

/** A key belongs to an account and a Region. */
function encryptionHere(name: string, encryption: unknown, here: EcrHost, leftOut: LeftOut): unknown {
  if (!isRecord(encryption) || typeof encryption['kmsKey'] !== 'string') return encryption;
  const [, , , region, account] = encryption['kmsKey'].split(':');
  if (region === undefined || (region === here.region && account === here.account)) return encryption;
  const { kmsKey, ...others } = encryption;
  leftOut(`the key of ${name} was left out`, `it is ${quote(kmsKey)}; ECR's own key encrypts instead`);
  return others;
}

function policyHere(
  what: string,
  policy: string,
  here: EcrHost,
  allowForeign: boolean,
  leftOut: LeftOut,
): string | undefined {
  if (allowForeign) return policy;
  try {
    const foreign = foreignGrants(policy, [here.account]);
    if (foreign.length === 0) return canonicalPolicy(policy);
    const named = foreign.map(quote).join(', ');
    leftOut(`${what} was left out`, `it grants access to ${named}, outside account ${here.account}; ${HOW}`);
  } catch (error) {
    leftOut(`${what} was left out`, describeFailure(error));
  }
  return undefined;
}
