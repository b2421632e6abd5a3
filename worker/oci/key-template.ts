import { hexOf, type Digest } from './digest.ts';
import { ecrHost } from './ecr-host.ts';
import type { Reference } from './reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

const DEFAULT_TEMPLATE = '{regionName}/{repository}/{tag}.tar';

/** `key` as a template of archives: an empty one, and one that ends in `/`, is followed by `DEFAULT_TEMPLATE`. */
export function archiveTemplate(key: string): string {
  return key === '' || key.endsWith('/') ? `${key}${DEFAULT_TEMPLATE}` : key;
}

/**
 * Where the snapshots of archives with this template are: its fixed beginning up to the last "/" before the first variable. Empty, or ends in
 * "/": `backups/` of `backups/{regionName}/{repository}/{tag}.tar`.
 */
export function snapshotPrefix(template: string): string {
  const fixed = template.split('{', 1)[0] ?? '';
  return fixed.slice(0, fixed.lastIndexOf('/') + 1);
}

const VARIABLES = ['regionName', 'repository', 'tag', 'digest', 'registry', 'account', 'region', 'date'] as const;

/**
 * The key of an image's archive. Variables: `{repository}`, `{tag}` (of an image without one its digest, `sha256-<hex>`), `{digest}` (hex),
 * `{registry}` (host), `{regionName}` (of ECR its region, of others the host), `{account}` and `{region}` (ECR only), `{date}` (UTC,
 * 2026-11-21). INVALID for others, and for those that the image has not.
 */
export function expandTemplate(template: string, reference: Reference, digest: Digest | undefined, now: Date): string {
  const values: Readonly<Record<(typeof VARIABLES)[number], string | undefined>> = {
    ...templateValues(reference.registry),
    repository: reference.repository,
    tag: reference.tag ?? digest?.replace(':', '-'),
    digest: digest === undefined ? undefined : hexOf(digest),
    date: now.toISOString().slice(0, 10),
  };
  return template.replace(/\{([^{}]*)\}/g, (_, name: string) => {
    const known = VARIABLES.find((variable) => variable === name);
    if (known === undefined) {
      throw new Failure('INVALID', `the template ${quote(template)}: {${name}} is none of {${VARIABLES.join('}, {')}}`);
    }
    const value = values[known];
    if (value === undefined) {
      const why = known === 'account' || known === 'region' ? `${reference.registry} is not ECR and` : 'the image';
      throw new Failure('INVALID', `the template ${quote(template)}: ${why} has no {${name}}`);
    }
    return value;
  });
}

/** The values of the variables that depend on the registry alone. */
export function templateValues(
  registry: string,
): Record<'regionName' | 'registry', string> & Record<'account' | 'region', string | undefined> {
  const ecr = ecrHost(registry);
  const name = registry.replace(':', '_');
  return { regionName: ecr?.region ?? name, registry: name, account: ecr?.account, region: ecr?.region };
}
