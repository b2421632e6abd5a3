import { hexOf, type Digest } from '../oci/digest.ts';
import { ecrHost } from '../oci/ecr-host.ts';
import type { Reference } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/quote.ts';

export const DEFAULT_TEMPLATE = '{regionName}/{repository}/{tag}.tar';

const VARIABLES = ['regionName', 'repository', 'tag', 'digest', 'registry', 'account', 'region', 'date'] as const;

/**
 * The key of an image's archive. Variables: `{repository}`, `{tag}` (of an image without one its digest, `sha256-<hex>`), `{digest}` (hex),
 * `{registry}` (host), `{regionName}` (of ECR its region, of others the host), `{account}` and `{region}` (ECR only), `{date}` (UTC,
 * 2026-11-21). INVALID for others, and for those that the image has not.
 */
export function expandTemplate(template: string, reference: Reference, digest: Digest | undefined, now: Date): string {
  const ecr = ecrHost(reference.registry);
  const values: Readonly<Record<(typeof VARIABLES)[number], string | undefined>> = {
    regionName: ecr?.region ?? reference.registry.replace(':', '_'),
    repository: reference.repository,
    tag: reference.tag ?? digest?.replace(':', '-'),
    digest: digest === undefined ? undefined : hexOf(digest),
    registry: reference.registry.replace(':', '_'),
    account: ecr?.account,
    region: ecr?.region,
    date: now.toISOString().slice(0, 10),
  };
  return template.replace(/\{([^{}]*)\}/g, (_, name: string) => {
    const known = VARIABLES.find((variable) => variable === name);
    if (known === undefined) {
      throw new Failure('INVALID', `the key ${quote(template)}: {${name}} is none of {${VARIABLES.join('}, {')}}`);
    }
    const value = values[known];
    if (value === undefined) {
      const why = known === 'account' || known === 'region' ? `${reference.registry} is not ECR and` : 'the image';
      throw new Failure('INVALID', `the key ${quote(template)}: ${why} has no {${name}}`);
    }
    return value;
  });
}
