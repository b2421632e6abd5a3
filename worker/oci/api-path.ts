/** A path below a repository, of the distribution API. */
export interface ApiPath {
  readonly repository: string;
  readonly kind: 'tags' | 'manifests' | 'blobs' | 'uploads' | 'referrers';
  /** The tag, digest or id of an upload after it, decoded and not checked. Empty for a list of tags, and where an upload begins. */
  readonly reference: string;
}

// the name is greedy: of several readings the one with the longest name is meant
const PATH = /^\/v2\/(.+)\/(?:(tags)\/list|blobs\/(uploads)\/([^/]*)|(blobs|manifests|referrers)\/([^/]+))$/;

/**
 * Reads the path of a request to a registry. A name may hold any of the words that follow it, so paths are read from their end. Undefined for other
 * paths. https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
 */
export function splitApiPath(path: string): ApiPath | undefined {
  const [, repository, tags, uploads, upload = '', kind, reference = ''] = PATH.exec(path) ?? [];
  if (repository === undefined) return undefined;
  if (tags !== undefined) return { repository, kind: 'tags', reference: '' };
  if (uploads !== undefined) return { repository, kind: 'uploads', reference: decoded(upload) };
  return { repository, kind: kind as 'blobs' | 'manifests' | 'referrers', reference: decoded(reference) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
