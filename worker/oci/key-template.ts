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

/** `{regionName|us-east-1=virginia,eu-west-1=ireland}`: the variable with other names for some Regions. */
const NAMED_REGIONS = /^regionName\|([a-z0-9-]+=[A-Za-z0-9._-]+(?:,[a-z0-9-]+=[A-Za-z0-9._-]+)*)$/;

/**
 * `template` with `{regionName}` written so that it has these names for Regions of ECR. The names are part of the
 * template from then on, so that every process that reads it makes the same key.
 */
export function withRegionNames(template: string, names: Readonly<Record<string, string>>): string {
  const list = Object.entries(names).map(([region, name]) => `${region}=${name}`);
  return list.length === 0 ? template : template.replaceAll('{regionName}', () => `{regionName|${list.join(',')}}`);
}

/** What `{regionName|…}` makes of a Region that it may have another name for. Undefined for another variable. */
function namedRegion(variable: string, regionName: string): string | undefined {
  const list = NAMED_REGIONS.exec(variable)?.[1];
  if (list === undefined) return undefined;
  const pair = list.split(',').find((one) => one.startsWith(`${regionName}=`));
  return pair === undefined ? regionName : pair.slice(regionName.length + 1);
}

/**
 * The key of an image's archive. Variables: `{repository}`, `{tag}` (for an image without one its digest, `sha256-<hex>`), `{digest}` (hex),
 * `{registry}` (host), `{regionName}` (for ECR its Region, or the name that `withRegionNames` gave it; for other registries the host), `{account}`
 * and `{region}` (ECR only), `{date}` (UTC, 2026-11-21). INVALID for other variables, and for those that the image does not have.
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
    const region = namedRegion(name, values.regionName ?? '');
    if (region !== undefined) return region;
    const known = VARIABLES.find((variable) => variable === name);
    if (known === undefined) {
      throw new Failure(
        'INVALID',
        `the template ${quote(template)}: {${name}} is not one of {${VARIABLES.join('}, {')}}`,
      );
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
