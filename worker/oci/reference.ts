import { Failure } from '../util/failure.ts';
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
/** distribution's limit for host and path together: https://github.com/distribution/reference/blob/v0.6.0/reference.go#L40 */
const MAX_NAME = 255;

/** Whether `text` can be a tag. */
export function isTag(text: string): boolean {
  return TAG.test(text);
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
      `the tag ${JSON.stringify(tag)} may hold letters, digits, "_", "." and "-", 128 at most, and starts with none of the last two`,
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
export function formatRepository(r: Repository): string {
  return `${r.registry}/${r.repository}`;
}

/** `registry/repository[:tag][@digest]`; what `parseReference` reads back to the same value. */
export function formatReference(r: Reference): string {
  const tag = r.tag === undefined ? '' : `:${r.tag}`;
  const digest = r.digest === undefined ? '' : `@${r.digest}`;
  return `${formatRepository(r)}${tag}${digest}`;
}

function split(text: string): { name: string; tag: string | undefined; digest: string | undefined } {
  const at = text.indexOf('@');
  const digest = at === -1 ? undefined : text.slice(at + 1);
  const rest = at === -1 ? text : text.slice(0, at);
  const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
  // "localhost:5000" alone is a name with a tag, as docker reads it; a port needs a path behind it
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
  if (!HOST.test(registry)) throw invalid(text, `${JSON.stringify(registry)} is not a host name`);
  if (registry === 'index.docker.io' || registry === 'registry-1.docker.io') registry = 'docker.io';
  if (registry === 'docker.io' && repository !== '' && !repository.includes('/')) repository = `library/${repository}`;
  for (const component of repository.split('/')) {
    if (COMPONENT.test(component)) continue;
    const hint = component !== component.toLowerCase() ? '; repository names are lower case' : '';
    throw invalid(text, `${JSON.stringify(component)} is not a component of a repository name${hint}`);
  }
  if (registry.length + 1 + repository.length > MAX_NAME)
    throw invalid(text, `the name is longer than ${MAX_NAME} characters`);
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
  const shown = text.length > 300 ? `${text.slice(0, 300)}…` : text;
  return new Failure('INVALID', `${JSON.stringify(shown)} is not an image reference: ${why}`, { cause });
}
