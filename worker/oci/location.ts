import { LRUCache } from 'lru-cache';
import { ecrHost } from './ecr-host.ts';
import { formatReference, isTag, parseReference, withoutSecrets, type Reference } from './reference.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { linearExpression } from '../util/linear-expression.ts';
import { quote } from '../util/text.ts';

/** Where an image is, or where a copy writes it. Transports as in skopeo, and `s3://`. */
export type Location =
  | { readonly transport: 'docker'; readonly reference: Reference }
  | { readonly transport: 's3'; readonly bucket: string; readonly key: string; readonly tag?: string | undefined }
  /** `tag`, to read: which image, by its tag, its name or its index (`@0`); to write: the tag that the image gets. */
  | { readonly transport: 'archive'; readonly path: string; readonly tag?: string | undefined }
  | { readonly transport: 'oci'; readonly folder: string; readonly tag?: string | undefined }
  | StoreLocation;

/** One image of a store: `store:PLACE:[host/]repository[:tag|@digest]`. */
export interface StoreLocation {
  readonly transport: 'store';
  /** What `parseStoreRoot` reads: `s3://bucket/prefix/` or a folder. */
  readonly place: string;
  /** As it was named in its registry; without `registry` where the store has that repository of one registry alone. */
  readonly image: Omit<Reference, 'registry'> & { readonly registry?: string | undefined };
}

/** Images of a registry by pattern: `*` stands for any characters, also `/`, and `{a,b}` for either. */
export interface ImagePattern {
  readonly registry: string;
  readonly repository: string;
  /** Absent: every tag. */
  readonly tag: string | undefined;
}

/** A registry, and what goes before the names of repositories there. */
export interface RegistryTarget {
  readonly registry: string;
  /** Without slashes at its ends; empty for none. */
  readonly prefix: string;
}

/** Transports of skopeo that this program does not have, and what to do instead. */
const NOT_SUPPORTED: ReadonlyMap<string, string> = new Map([
  ['docker-daemon', 'write the image with `docker save -o file.tar` and name docker-archive:file.tar'],
  ['containers-storage', 'write the image with `podman save -o file.tar` and name docker-archive:file.tar'],
  ['dir', 'convert it with `skopeo copy dir:folder oci:folder` and name oci:folder'],
]);

/**
 * Reads where one image is: `docker://host/repository:tag`, the same without `docker://`, `s3://bucket/key.tar`, `oci-archive:file.tar`,
 * `docker-archive:file.tar`, `oci:folder`, `store:place:repository:tag`. Archives and folders may end in `:tag`, `:name`, `:name:tag` or
 * `:@index`. The path `-` of an archive stands for standard input and output. INVALID otherwise.
 */
export function parseLocation(text: string): Location {
  if (text.startsWith('s3://')) {
    const { bucket, key } = parseS3(text);
    if (key === '' || key.endsWith('/')) throw invalid(text, 'an image in S3 has a key: s3://bucket/path/to/image.tar');
    return { transport: 's3', bucket, key };
  }
  for (const prefix of ['oci-archive:', 'docker-archive:']) {
    if (text.startsWith(prefix)) {
      const { path, tag } = splitPath(text, text.slice(prefix.length), ARCHIVE_FILE);
      return { transport: 'archive', path, tag };
    }
  }
  if (text.startsWith('oci:')) {
    const { path, tag } = splitPath(text, text.slice('oci:'.length));
    return { transport: 'oci', folder: path, tag };
  }
  if (text.startsWith('store:')) return parseStoreLocation(text);
  const other = /^[a-z-]+(?=:)/.exec(text)?.[0] ?? '';
  const instead = NOT_SUPPORTED.get(other);
  if (instead !== undefined) throw invalid(text, `${other}: is not supported; ${instead}`);
  const transport = /^([a-z][a-z0-9-]*):(?:\/\/|[./])/.exec(text)?.[1];
  if (transport !== undefined && transport !== 'docker' && !/^[^/]*:[0-9]+\//.test(text)) {
    throw invalid(text, `${transport}: is not one of docker://, s3://, oci-archive:, docker-archive:, oci:, store:`);
  }
  const image = withoutTransport(text);
  if (isHostWithPort(image.replace(/\/$/, '')))
    throw invalid(text, 'it names a registry, and a repository is missing: host:port/repository');
  return { transport: 'docker', reference: parseReference(image) };
}

/**
 * As `parseLocation`, for the destination of one image. A registry reference without tag and digest stands for the tag that the image has; an archive
 * or a folder may have a tag at most.
 */
export function parseDestination(text: string): Location {
  const location = parseLocation(text);
  if (location.transport === 'store') return location;
  if (location.transport !== 'docker' && location.tag !== undefined && !isTag(location.tag))
    throw invalid(text, `an image is written under a tag, and ${quote(location.tag)} is not a tag`);
  if (location.transport !== 'docker' || /[:@]/.test(text.slice(text.lastIndexOf('/') + 1))) return location;
  const { registry, repository } = location.reference;
  return { transport: 'docker', reference: { registry, repository } };
}

/** What `parseLocation` reads back to the same value, and `parseDestination` where a tag is left open. */
export function formatLocation(location: Location): string {
  const tag = !('tag' in location) || location.tag === undefined ? '' : `:${location.tag}`;
  switch (location.transport) {
    case 'docker':
      return `docker://${formatReference(location.reference)}`;
    case 's3':
      return `s3://${location.bucket}/${location.key}`;
    case 'archive':
      return `oci-archive:${location.path}${tag}`;
    case 'oci':
      return `oci:${location.folder}${tag}`;
    case 'store': {
      const { registry, ...image } = location.image;
      const name = formatReference({ registry: registry ?? '', ...image });
      return `store:${location.place}:${registry === undefined ? name.slice(1) : name}`;
    }
    default:
      return location satisfies never;
  }
}

/** Reads `store:PLACE:[host/]repository[:tag][@digest]`; without tag and digest the tag is `latest`. A place has no colon but that of `s3://`. */
function parseStoreLocation(text: string): StoreLocation {
  const rest = text.slice('store:'.length);
  const colon = rest.indexOf(':', rest.startsWith('s3://') ? 's3://'.length : 0);
  const [place, name] = colon === -1 ? [rest, ''] : [rest.slice(0, colon), rest.slice(colon + 1)];
  if (place === '' || name === '') throw invalid(text, 'an image of a store is store:PLACE:repository:tag');
  const host = name.split('/', 1)[0] ?? '';
  const isNamed = name.includes('/') && (/[.:]/.test(host) || host === 'localhost');
  const { registry, ...image } = parseReference(isNamed ? name : `${ANY_HOST}/${name}`);
  return { transport: 'store', place, image: isNamed ? { registry, ...image } : image };
}

/** Stands for the host that a name leaves out. */
const ANY_HOST = 'any.invalid';

/** Whether `text` is the host of a registry with its port. Docker reads it as a repository of Docker Hub with a tag. */
function isHostWithPort(text: string): boolean {
  return /^(?:localhost|\[[0-9a-f:.]+\]|[a-z0-9-]+(?:\.[a-z0-9-]+)+):[0-9]{1,5}$/i.test(text);
}

/**
 * Reads `[docker://]host/repository[:tag]`, either of them with `*` and `{a,b}`; `isPattern` is whether it has any. The host of an ECR registry
 * alone, and a host with a port alone, stand for all its repositories.
 */
export function parseImagePattern(text: string): ImagePattern {
  const rest = withoutTransport(text);
  const host = rest.replace(/\/$/, '');
  if (ecrHost(host) !== undefined || isHostWithPort(host)) return { registry: host, repository: '*', tag: undefined };
  if (!isPattern(rest)) {
    const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
    const { registry, repository, tag, digest } = parseReference(rest);
    if (digest !== undefined) throw invalid(text, 'an image by digest is copied with its own key, without a pattern');
    return { registry, repository, tag: colon === -1 ? undefined : tag };
  }
  const slash = rest.indexOf('/');
  const registry = slash === -1 ? '' : rest.slice(0, slash);
  if (!/[.:]/.test(registry) && registry !== 'localhost') {
    throw invalid(text, 'a pattern names its registry: docker://host/repositories*');
  }
  const path = rest.slice(slash + 1);
  expressionOf(path);
  const colon = path.indexOf(':', path.lastIndexOf('/') + 1);
  const repository = colon === -1 ? path : path.slice(0, colon);
  if (!/^[a-z0-9._/*{},-]+$/.test(repository)) throw invalid(text, `${quote(repository)} cannot match a repository`);
  return { registry, repository, tag: colon === -1 ? undefined : path.slice(colon + 1) };
}

const WHAT_A_REGISTRY_IS = 'a registry is named by its host: docker://host or docker://host/prefix';

/** Reads `[docker://]host[/prefix]`. */
export function parseRegistryTarget(text: string): RegistryTarget {
  const rest = withoutTransport(text).replace(/\/+$/, '');
  if (rest.includes('://')) throw invalid(text, WHAT_A_REGISTRY_IS);
  const slash = rest.indexOf('/');
  const registry = slash === -1 ? rest : rest.slice(0, slash);
  const prefix = slash === -1 ? '' : rest.slice(slash + 1);
  if (/^[a-z-]+:(?!\d)/.test(registry) || /[:@]/.test(prefix)) throw invalid(text, WHAT_A_REGISTRY_IS);
  // checked by reading what it would make of a repository
  const { registry: host } = parseReference(`${registry}/${prefix === '' ? '' : `${prefix}/`}x`);
  if (host !== registry) throw invalid(text, WHAT_A_REGISTRY_IS);
  return { registry, prefix };
}

/** Reads `s3://bucket/key`; the key may be empty or a prefix. */
export function parseS3(text: string): { readonly bucket: string; readonly key: string } {
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/s.exec(text);
  if (match?.[1] === undefined) throw invalid(text, 'expected s3://bucket/key');
  return { bucket: match[1], key: match[2] ?? '' };
}

/** Whether `text` has one of the characters that make it a pattern. */
export function isPattern(text: string): boolean {
  return /[*{]/.test(text);
}

/** The patterns that were used last, compiled: each is compared with every name of a list. */
const EXPRESSIONS = new LRUCache<string, (text: string) => boolean>({ max: 100 });

/** Whether `text` matches the pattern: `*` any characters, `{a,b}` either; everything else stands for itself. */
export function matchesPattern(pattern: string, text: string): boolean {
  return isPattern(pattern) ? expressionOf(pattern)(text) : pattern === text;
}

/** INVALID for a brace that is not closed, and for a pattern that is too long. */
function expressionOf(pattern: string): (text: string) => boolean {
  const known = EXPRESSIONS.get(pattern);
  if (known !== undefined) return known;
  let source = '';
  let depth = 0;
  for (const character of pattern) {
    if (character === '*') source += '.*';
    else if (character === '{') {
      depth++;
      source += '(?:';
    } else if (character === '}' && depth > 0) {
      depth--;
      source += ')';
    } else if (character === ',' && depth > 0) source += '|';
    else source += character.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
  }
  if (depth > 0) throw invalid(pattern, 'a brace is not closed');
  let matches: (text: string) => boolean;
  try {
    matches = linearExpression(`^${source}$`, 's');
  } catch (cause) {
    if (cause instanceof SyntaxError) throw invalid(pattern, 'it is too long or nested too deep');
    throw cause;
  }
  EXPRESSIONS.set(pattern, matches);
  return matches;
}

/** A place in a registry without `docker://`, which may be left out everywhere. */
export function withoutTransport(text: string): string {
  return text.startsWith('docker://') ? text.slice('docker://'.length) : text;
}

/** A complete path of an archive: what follows it after a colon may have slashes. */
const ARCHIVE_FILE = /\.(?:tar|tgz|tar\.gz|tar\.zst)$|^\/dev\/stdin$|^-$/i;

/** Whether an archive at this path is read from standard input. */
export function isStandardInput(path: string): boolean {
  return path === '-' || path === '/dev/stdin';
}

/** Whether an archive at this path is written to standard output. */
export function isStandardOutput(path: string): boolean {
  return path === '-' || path === '/dev/stdout';
}

/** Splits at the first colon, as skopeo does, unless it is part of a folder's name: a name with slashes follows only a path that matches `whole`. */
function splitPath(text: string, rest: string, whole?: RegExp): { path: string; tag: string | undefined } {
  for (let colon = rest.indexOf(':'); colon !== -1; colon = rest.indexOf(':', colon + 1)) {
    const [path, tag] = [rest.slice(0, colon), rest.slice(colon + 1)];
    if (tag.includes('/') && whole?.test(path) !== true) continue;
    if (path === '') break;
    if (!isImageChoice(tag)) throw invalid(text, `${quote(tag)} is not a tag, a name:tag or an @index of an image`);
    return { path, tag };
  }
  if (rest === '' || rest.startsWith(':')) throw invalid(text, 'expected a path after the transport');
  return { path: rest, tag: undefined };
}

/** Whether `text` can follow the path of an archive or folder, to choose one of its images. */
export function isImageChoice(text: string): boolean {
  if (/^@\d{1,9}$/.test(text) || isTag(text)) return true;
  try {
    parseReference(text);
    return true;
  } catch (error) {
    if (!isFailure(error)) throw error;
    return false;
  }
}

function invalid(text: string, why: string): Failure {
  return new Failure('INVALID', `${quote(withoutSecrets(text))} is not a location of images: ${why}`);
}
