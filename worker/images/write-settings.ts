import { ecrHost } from '../oci/ecr-host.ts';
import { describeFailure } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import { escaped, quote } from '../util/text.ts';
import type { OperationOptions, Registry } from './backends.ts';
import { canonicalPolicy, foreignGrants } from './foreign-grants.ts';

/** Settings of a repository, as `repository.json` has them. */
export type SettingsDocument = Readonly<Record<string, unknown>>;

/** The members of `settings` that `chosen` does not replace. */
export function withoutChosen(settings: SettingsDocument, chosen: SettingsDocument): SettingsDocument {
  const replaced = new Set(Object.keys(chosen));
  // the exceptions of one mutability do not apply to another
  if (replaced.has('tagMutability')) replaced.add('tagMutabilityExclusions');
  return Object.fromEntries(Object.entries(settings).filter(([name]) => !replaced.has(name)));
}

/**
 * The settings without a policy that grants access to other accounts than that of the registry `host`: the source's account is only what a
 * backup claims. `onLeftOut` gets the reason.
 */
export function withoutForeignGrants(
  settings: SettingsDocument,
  host: string,
  onLeftOut: (why: string) => void,
): SettingsDocument {
  const { repositoryPolicy: policy, ...others } = settings;
  if (typeof policy !== 'string') return settings;
  const account = ecrHost(host)?.account;
  try {
    const foreign = foreignGrants(policy, account === undefined ? [] : [account]);
    if (foreign.length === 0) return { ...others, repositoryPolicy: canonicalPolicy(policy) };
    const named = foreign.map(quote).join(', ');
    onLeftOut(
      `it grants access to ${named}, outside the account of ${host}; pass --allow-foreign-grants to restore it`,
    );
  } catch (error) {
    onLeftOut(describeFailure(error));
  }
  return others;
}

/** What settings are written to. */
export interface SettingsTarget {
  readonly registry: Registry;
  readonly repository: string;
  readonly exists: boolean;
  /** Reports what would be changed, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** Creates the repository with these settings, or makes an existing one have them, after a note of each change. Returns whether any differed. */
export async function writeSettingsTo(
  { registry, repository, exists, dryRun = false }: SettingsTarget,
  settings: SettingsDocument,
  options: OperationOptions,
): Promise<boolean> {
  if (!exists) {
    const members = Object.entries(settings).map(([name, value]) => `${name} ${escaped(JSON.stringify(value))}`);
    const created = dryRun ? 'would be created' : 'created';
    note(options.report, `${repository}: ${created} with ${members.length === 0 ? 'no settings' : members.join(', ')}`);
    if (!dryRun) await registry.createRepository(repository, settings, options);
    return true;
  }
  const changes = await registry.settingsChanges(repository, settings, options);
  for (const { member, from, to } of changes)
    note(
      options.report,
      `${repository}: ${member}: ${from === undefined ? 'nothing' : escaped(from)} → ${escaped(to)}`,
    );
  if (changes.length > 0 && !dryRun) await registry.applySettings(repository, settings, options);
  return changes.length > 0;
}

function note(report: Report | undefined, message: string): void {
  report?.({ type: 'note', message });
}
