import { Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { parseDigest, type Digest } from './digest.ts';

/** A repository of a registry. `registry` is a host with an optional port, as typed, except that Docker Hub is always `docker.io`. */
export interface Repository {
  readonly registry: string;
  readonly repository: string;
}

/** An image: a repository and a tag, a digest, or both (then the digest decides and the tag is a name for people). */
export interface Reference extends Repository {
  readonly tag?: string | undefined;
  readonly digest?: Digest | undefined;
}

// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const HOST =
  /^(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)(?::[0-9]{1,5})?$/;
/** Docker takes 255 characters after the host, ECR 256: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html */
const MAX_REPOSITORY = 256;
const DIGEST_LIKE = /^sha[0-9]+:[^/?]*$/i;
const IMAGE_ID = /^[0-9a-f]{64}$/;

/** Whether `text` can be a tag. */
export function isTag(text: string): boolean {
  return TAG.test(text);
}

/** Whether `text` can be the name of a repository. */
export function isRepositoryName(text: string): boolean {
  return text.length <= MAX_REPOSITORY && text.split('/').every((component) => COMPONENT.test(component));
}

/** As `parseReference`; undefined for what cannot be the name of an image, such as a wrong name in the metadata of an archive. */
export function ifReference(text: string | undefined): Reference | undefined {
  if (text === undefined) return undefined;
  try {
    return parseReference(text);
  } catch (error) {
    if (isFailure(error, 'INVALID')) return undefined;
    throw error;
  }
}

/**
 * Reads an image reference as docker does: without a host it is Docker Hub, a single name there is `library/name`, and without tag and
 * digest it is `latest`. INVALID with one sentence otherwise.
 */
export function parseReference(text: string): Reference {
  const { name, tag, digest } = split(text);
  const repository = parseName(text, name);
  if (tag !== undefined && !isTag(tag)) {
    throw invalid(
      text,
      `the tag ${quote(tag)} may hold letters, digits, "_", "." and "-", 128 at most, and starts with none of the last two`,
    );
  }
  if (digest !== undefined) return { ...repository, tag, digest: parseDigestOf(text, digest) };
  return { ...repository, tag: tag ?? 'latest' };
}

/** As `parseReference`, for a repository alone: a tag or digest is INVALID. */
export function parseRepository(text: string): Repository {
  const { name, tag, digest } = split(text);
  if (tag !== undefined || digest !== undefined) throw invalid(text, 'expected a repository, without a tag or digest');
  return parseName(text, name);
}

/** `registry/repository`. */
export function formatRepository(repository: Repository): string {
  return `${repository.registry}/${repository.repository}`;
}

/** `registry/repository[:tag][@digest]`; what `parseReference` reads back to the same value. */
export function formatReference(r: Reference): string {
  const tag = r.tag === undefined ? '' : `:${r.tag}`;
  const digest = r.digest === undefined ? '' : `@${r.digest}`;
  return `${formatRepository(r)}${tag}${digest}`;
}

function split(text: string): { name: string; tag: string | undefined; digest: string | undefined } {
  if (text.includes('://') || text.includes('?')) {
    throw invalid(text, 'expected [host/]repository[:tag][@digest], not a URL');
  }
  if (IMAGE_ID.test(text)) throw invalid(text, 'it looks like the ID of an image, which registries do not know');
  const offset = text.lastIndexOf('@');
  const digest = offset === -1 ? undefined : text.slice(offset + 1);
  if (digest !== undefined && !DIGEST_LIKE.test(digest)) {
    throw invalid(text, `${quote(digest)} is not a digest; credentials come from a login, not from the reference`);
  }
  const rest = offset === -1 ? text : text.slice(0, offset);
  const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
  // "localhost:5000" alone is a name with a tag, as docker reads it; a port needs a path after it
  return colon === -1
    ? { name: rest, tag: undefined, digest }
    : { name: rest.slice(0, colon), tag: rest.slice(colon + 1), digest };
}

function parseName(text: string, name: string): Repository {
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const hasHost = slash !== -1 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  let registry = hasHost ? first : 'docker.io';
  let repository = hasHost ? name.slice(slash + 1) : name;
  // also asked of the URL parser, which knows ports and addresses that cannot be
  if (!HOST.test(registry) || !URL.canParse(`https://${registry}/`))
    throw invalid(text, `${quote(registry)} is not a host name`);
  if (registry === 'index.docker.io' || registry === 'registry-1.docker.io') registry = 'docker.io';
  if (registry === 'docker.io' && repository !== '' && !repository.includes('/')) repository = `library/${repository}`;
  for (const component of repository.split('/')) {
    if (COMPONENT.test(component)) continue;
    const hint = component !== component.toLowerCase() ? '; repository names are lower case' : '';
    throw invalid(text, `${quote(component)} is not a component of a repository name${hint}`);
  }
  if (repository.length > MAX_REPOSITORY)
    throw invalid(text, `the repository is longer than ${MAX_REPOSITORY} characters`);
  return { registry, repository };
}

function parseDigestOf(text: string, digest: string): Digest {
  try {
    return parseDigest(digest);
  } catch (error) {
    throw invalid(text, error instanceof Error ? error.message : 'the digest is malformed', error);
  }
}

function invalid(text: string, why: string, cause?: unknown): Failure {
  return new Failure('INVALID', `${quote(withoutSecrets(text))} is not an image reference: ${why}`, { cause });
}

/** `text` without what may be secret in it: a password before an `@` that begins no digest, and the query of a URL. */
export function withoutSecrets(text: string): string {
  const offset = text.lastIndexOf('@');
  const whole = offset === -1 || DIGEST_LIKE.test(text.slice(offset + 1)) ? text : `…${text.slice(offset)}`;
  return whole.replace(/\?.*/s, '?…');
}
