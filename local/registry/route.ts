import { splitApiPath } from '../../worker/oci/api-path.ts';
import { parseDigest, type Digest } from '../../worker/oci/digest.ts';

/** What a request is for. Faults and `deny` lists name requests by this. */
export type RequestKind = Route['kind'];

/** The names of requests in faults: their purpose, or the operation of ECR's JSON API, which begins with a capital letter. */
export type RegistryOperation = RequestKind | Capitalize<string>;

/** A request of the distribution API, or one of those that registries answer beside it. */
export type Route =
  /** A path or method that no registry knows. */
  | { readonly kind: 'unknown' }
  /** The path is known, the method is not. */
  | { readonly kind: 'unsupported'; readonly allow: string }
  | { readonly kind: 'base' }
  | { readonly kind: 'token' }
  | { readonly kind: 'catalog-list' }
  | { readonly kind: 'tags-list'; readonly repository: string }
  | {
      readonly kind: 'referrers-list';
      readonly repository: string;
      readonly reference: string;
      readonly digest?: Digest;
    }
  | {
      readonly kind: 'manifest-head' | 'manifest-get' | 'manifest-put' | 'manifest-delete';
      readonly repository: string;
      /** A tag or a digest, not checked. */
      readonly reference: string;
      readonly digest?: Digest;
    }
  | {
      readonly kind: 'blob-head' | 'blob-get' | 'blob-delete';
      readonly repository: string;
      readonly reference: string;
      readonly digest?: Digest;
    }
  | {
      readonly kind: 'upload-post';
      readonly repository: string;
      /** The digest of a POST that mounts a blob or brings it along. */
      readonly digest?: Digest;
    }
  | {
      readonly kind: 'upload-get' | 'upload-patch' | 'upload-put' | 'upload-delete';
      readonly repository: string;
      readonly upload: string;
      readonly digest?: Digest;
    }
  /** The JSON API of ECR. */
  | { readonly kind: 'api'; readonly operation: string }
  /** A blob in the bucket that ECR redirects to. */
  | { readonly kind: 'layer-get' | 'layer-head'; readonly digest?: Digest };

/**
 * Finds what a request to a registry is for. A name may hold any of the words that follow it, so paths are read from their end.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
 */
export function parseRoute(method: string, url: URL): Route {
  const path = url.pathname;
  if (path === '/v2/' || path === '/v2') return byMethod(method, { GET: { kind: 'base' }, HEAD: { kind: 'base' } });
  if (path === '/v2/_catalog') return byMethod(method, { GET: { kind: 'catalog-list' } });
  if (path === '/token') return byMethod(method, { GET: { kind: 'token' }, POST: { kind: 'token' } });
  const found = splitApiPath(path);
  if (found === undefined) return { kind: 'unknown' };
  const { repository, kind, reference } = found;
  if (kind === 'tags') return byMethod(method, { GET: { kind: 'tags-list', repository } });
  if (kind === 'uploads') return uploadRoute(method, url, repository, reference);
  const about = { repository, reference, ...digestIn(reference) };
  if (kind === 'referrers') return byMethod(method, { GET: { kind: 'referrers-list', ...about } });
  if (kind === 'blobs') {
    return byMethod(method, {
      HEAD: { kind: 'blob-head', ...about },
      GET: { kind: 'blob-get', ...about },
      DELETE: { kind: 'blob-delete', ...about },
    });
  }
  return byMethod(method, {
    HEAD: { kind: 'manifest-head', ...about },
    GET: { kind: 'manifest-get', ...about },
    PUT: { kind: 'manifest-put', ...about },
    DELETE: { kind: 'manifest-delete', ...about },
  });
}

function uploadRoute(method: string, url: URL, repository: string, upload: string): Route {
  const query = url.searchParams;
  if (upload === '') {
    const about = { repository, ...digestIn(query.get('mount') ?? query.get('digest')) };
    return byMethod(method, { POST: { kind: 'upload-post', ...about } });
  }
  const about = { repository, upload, ...digestIn(query.get('digest')) };
  return byMethod(method, {
    GET: { kind: 'upload-get', ...about },
    PATCH: { kind: 'upload-patch', ...about },
    PUT: { kind: 'upload-put', ...about },
    DELETE: { kind: 'upload-delete', ...about },
  });
}

function byMethod(method: string, routes: Readonly<Record<string, Route>>): Route {
  return routes[method] ?? { kind: 'unsupported', allow: Object.keys(routes).join(', ') };
}

function digestIn(text: string | null): { readonly digest?: Digest } {
  if (text === null) return {};
  try {
    return { digest: parseDigest(text) };
  } catch {
    return {};
  }
}
