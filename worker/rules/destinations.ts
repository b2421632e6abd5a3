import type { Digest } from '../oci/digest.ts';
import { isTag, parseReference, parseRepository, withoutSecrets, type Reference } from '../oci/reference.ts';
import type { DestinationKey } from '../state/state.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { archiveTemplate, expandTemplate } from '../oci/key-template.ts';
import { formatLocation, parseLocation, parseS3, withoutTransport, type Location } from '../oci/location.ts';
import { formatObjectPlace, parseObjectPlace } from '../oci/object-place.ts';
import type { CopyRule } from './rule.ts';
import { registryName } from './sources.ts';

/** A destination of an image of a rule. */
export interface Destination extends DestinationKey {
  /** `docker://host/repository:tag`, `docker://host/repository@digest` or `s3://bucket/key`. */
  readonly location: string;
}

/** A `to`, taken apart. */
export type DestinationTemplate =
  | {
      readonly transport: 'docker';
      readonly registry: string;
      readonly repository: string;
      /** Absent: the tag of the source, and for an image without one its digest. */
      readonly tag?: string | undefined;
    }
  | { readonly transport: 's3'; readonly bucket: string; readonly key: string };

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html */
const MAX_KEY_BYTES = 1024;

/**
 * Where a rule wants `image`, one for each of its templates, in their order. `digest` is what the image stands for; where it is undefined, a
 * template with `{digest}` is INVALID, and so is one with a variable that this image does not have, or that makes an impossible name.
 */
export function destinationsOf(
  rule: Pick<CopyRule, 'kind' | 'to'>,
  image: Reference,
  digest: Digest | undefined,
  nowMs: number,
): readonly Destination[] {
  return rule.to.map((to) => {
    const location = formatLocation(locate(parseTemplate(rule.kind, to), to, image, digest, new Date(nowMs)));
    return { ...destinationKey(location), location };
  });
}

function locate(
  template: DestinationTemplate,
  to: string,
  image: Reference,
  digest: Digest | undefined,
  now: Date,
): Location {
  const expand = (text: string): string => expandTemplate(text, image, digest, now);
  if (template.transport === 's3') {
    const key = expand(template.key);
    if (Buffer.byteLength(key) > MAX_KEY_BYTES)
      throw new Failure('INVALID', `${quote(to)} makes a key of more than ${MAX_KEY_BYTES} bytes: ${quote(key)}`);
    return { transport: 's3', bucket: template.bucket, key };
  }
  const tag = template.tag === undefined ? image.tag : expand(template.tag);
  const name = `${template.registry}/${expand(template.repository)}`;
  if (tag !== undefined) {
    if (!isTag(tag)) throw new Failure('INVALID', `${quote(to)} makes ${quote(tag)}, which cannot be a tag`);
    return { transport: 'docker', reference: parseReference(`${name}:${tag}`) };
  }
  if (digest === undefined && image.digest === undefined)
    throw new Failure('INVALID', `${quote(to)}: an image without a tag goes by its digest, which is not known`);
  return { transport: 'docker', reference: parseReference(`${name}@${digest ?? image.digest}`) };
}

/**
 * Reads a `to`: `[docker://]host/path/{repository}[:{tag}]` of a mirror, `s3://bucket/key` of a backup. One that ends in `/`, and a bucket
 * alone, is followed by the default: `{repository}`, or that of archives. INVALID for others, also for unknown variables.
 */
export function parseTemplate(kind: CopyRule['kind'], text: string): DestinationTemplate {
  if (UNFIT.test(text)) throw invalid(text, 'it has invisible characters');
  return kind === 'mirror' ? parseMirrorTemplate(text) : parseBackupTemplate(text);
}

/** What no message and no key of S3 can hold, such as a line break. */
const UNFIT = /\p{Cc}|\p{Cs}/u;

function parseMirrorTemplate(text: string): DestinationTemplate {
  const rest = withoutTransport(text);
  if (/^[a-z0-9-]+:\/\//.test(rest))
    throw invalid(
      text,
      'a mirror is written to a registry, such as 111111111111.dkr.ecr.us-east-1.amazonaws.com/{repository}',
    );
  const whole = rest.endsWith('/') ? `${rest}{repository}` : rest;
  if (whole.includes('@')) throw invalid(text, 'it cannot name a digest');
  const colon = whole.indexOf(':', whole.lastIndexOf('/') + 1);
  const name = colon === -1 ? whole : whole.slice(0, colon);
  const tag = colon === -1 ? undefined : whole.slice(colon + 1);
  checkVariables(text, whole);
  const slash = name.indexOf('/');
  const host = name.slice(0, Math.max(slash, 0));
  // what docker would read as a name of Docker Hub has to name the host, so that no slip publishes an image
  if (host.includes('{') || !(/[.:]/.test(host) || host === 'localhost'))
    throw invalid(text, 'it names no host: expected host/repository, such as registry.example/mirror/{repository}');
  // the rest is read with the variables filled in, as it is read when it is used
  const { registry } = parseReference(filled(name));
  if (tag !== undefined && !isTag(filled(tag))) throw invalid(text, `${quote(tag)} cannot be a tag`);
  return { transport: 'docker', registry, repository: name.slice(slash + 1), tag: tag === '{tag}' ? undefined : tag };
}

function parseBackupTemplate(text: string): DestinationTemplate {
  if (!text.startsWith('s3://'))
    throw invalid(text, 'a backup is written to S3, such as s3://bucket/{repository}/{tag}.tar');
  const { bucket, key } = parseS3(text);
  const whole = archiveTemplate(key);
  checkVariables(text, whole);
  return { transport: 's3', bucket, key: whole };
}

/** INVALID for unknown variables, which `expandTemplate` reports, and for braces that make no variable. */
function checkVariables(text: string, template: string): void {
  const sample: Reference = { registry: '000000000000.dkr.ecr.us-east-1.amazonaws.com', repository: 'x', tag: 'x' };
  const rest = expandTemplate(template, sample, `sha256:${'0'.repeat(64)}`, new Date(0));
  if (/[{}]/.test(rest)) throw invalid(text, 'a brace is not closed');
}

function filled(template: string): string {
  return template.replace(/\{[^{}]*\}/g, 'x');
}

function invalid(text: string, why: string): Failure {
  return new Failure('INVALID', `${quote(withoutSecrets(text))} is not a destination: ${why}`);
}

/**
 * `to` with the tag of `from`, or with its digest if `from` does not have a tag. Unchanged where `to` has a name or is not a repository; undefined
 * where `from` is not an image of a registry.
 */
export function withNameOf(to: Location, from: Location): Location | undefined {
  if (to.transport !== 'docker' || to.reference.tag !== undefined || to.reference.digest !== undefined) return to;
  if (from.transport !== 'docker') return undefined;
  const { registry, repository } = to.reference;
  const { tag, digest } = from.reference;
  return { transport: 'docker', reference: { registry, repository, ...(tag === undefined ? { digest } : { tag }) } };
}

/**
 * What a destination is remembered by: of a registry its repository and the tag (or `@digest`), under whichever host of ECR it is named; of S3 the
 * folder of the key and its name. INVALID for other places.
 */
export function destinationKey(location: string): DestinationKey {
  const parsed = parseLocation(location);
  switch (parsed.transport) {
    case 'docker': {
      const { registry, repository, tag, digest } = parsed.reference;
      return { group: `docker://${registryName(registry)}/${repository}`, name: tag ?? `@${digest}` };
    }
    case 's3': {
      const slash = parsed.key.lastIndexOf('/');
      const folder = slash === -1 ? '' : `/${parsed.key.slice(0, slash)}`;
      return { group: `s3://${parsed.bucket}${folder}`, name: parsed.key.slice(slash + 1) };
    }
    case 'archive':
    case 'oci':
    case 'store':
      throw new Failure(
        'INVALID',
        `${quote(location)} is not a destination of the service: expected docker:// or s3://`,
      );
    default:
      return parsed satisfies never;
  }
}

/** Reads the place of objects that a rule publishes, with a slash at its end. INVALID for what is not a place in S3, or no message can hold. */
export function parsePublished(text: string): string {
  const { bucket, key } = parseS3(text);
  if (UNFIT.test(text))
    throw new Failure('INVALID', `${quote(text)} is not a place of objects: it has invisible characters`);
  return formatObjectPlace(parseObjectPlace(`s3://${bucket}/${key}`));
}

/** What a rule or a job that publishes to the repository `to` is remembered by: its last snapshot. INVALID for what is not a repository. */
export function publishedAt(to: string): Destination {
  const { registry, repository } = parseRepository(withoutTransport(to));
  const location = `docker://${registry}/${repository}:latest`;
  return { ...destinationKey(location), location };
}

/** Equal for equal choices of what comes along with an image. */
export function choicesKey(choices: {
  readonly platforms?: readonly string[] | undefined;
  readonly referrers?: boolean | undefined;
}): string {
  const platforms = [...new Set(choices.platforms)].sort().join(',');
  return `${platforms === '' ? 'all' : platforms}${choices.referrers === false ? ' without referrers' : ''}`;
}
