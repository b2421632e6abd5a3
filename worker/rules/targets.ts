import { ecrHost } from '../oci/ecr-host.ts';
import { parseDestination, parseS3 } from '../oci/location.ts';
import { parseRepository } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { parseAllowed } from './allowed.ts';
import { parseTemplate } from './destinations.ts';
import { isCopyRule, type Rule } from './rule.ts';
import { registryName } from './sources.ts';
import { isStore, parseStore } from './stores.ts';

/** The registries and buckets that requests by hand may write to: those that rules write to, and those that `allow` names. */
export class AllowedTargets {
  /** As `parseAllowed` returns them. */
  readonly #names = new Set<string>();

  /** INVALID for an entry of `allow` that `parseAllowed` refuses. */
  constructor(rules: readonly Rule[], allow: readonly string[]) {
    for (const entry of allow) this.#names.add(parseAllowed(entry));
    for (const rule of rules) {
      if (rule.kind === 'publish') this.#names.add(registryName(parseRepository(rule.to).registry));
      if (!isCopyRule(rule)) continue;
      for (const store of rule.stores ?? []) this.#names.add(`s3://${bucketOfStore(store)}`);
      for (const to of rule.to) {
        const template = parseTemplate(rule.kind, to);
        this.#names.add(template.transport === 's3' ? `s3://${template.bucket}` : registryName(template.registry));
      }
    }
  }

  /**
   * The failure of a request to write to `location`, an image's or a store: DENIED, with what to do. Undefined where it may. Throws INVALID for
   * what is neither.
   */
  refusal(location: string): Failure | undefined {
    const name = isStore(location) ? `s3://${bucketOfStore(location)}` : nameOf(location);
    if (name === undefined) return undefined;
    const account = name.startsWith('s3://') ? undefined : ecrHost(name)?.account;
    if (this.#names.has(name) || (account !== undefined && this.#names.has(account))) return undefined;
    return new Failure(
      'DENIED',
      `write to ${location}: no rule writes to ${name}, and nothing allows it: add ${quote(name)} to \`allow\` in the rules file, and apply it`,
      { context: { side: 'target' } },
    );
  }
}

/** The registry or the bucket of an image. Undefined for other transports: a worker reaches none of them, and reports that itself. */
function nameOf(location: string): string | undefined {
  const parsed = parseDestination(location);
  if (parsed.transport === 's3') return `s3://${parsed.bucket}`;
  return parsed.transport === 'docker' ? registryName(parsed.reference.registry) : undefined;
}

function bucketOfStore(store: string): string {
  return parseS3(parseStore(store).slice('store:'.length)).bucket;
}
