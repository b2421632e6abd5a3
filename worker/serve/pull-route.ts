import { splitApiPath } from '../oci/api-path.ts';

/** A request to a registry that is only read. */
export type PullRoute =
  | { readonly kind: 'base' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'tags'; readonly repository: string }
  /** `reference` is a tag or a digest, not checked. */
  | { readonly kind: 'manifest'; readonly repository: string; readonly reference: string }
  /** `digest` is not checked. */
  | { readonly kind: 'blob' | 'referrers'; readonly repository: string; readonly digest: string }
  /** A path that a registry has, and a method that changes it. */
  | { readonly kind: 'write' }
  | { readonly kind: 'unknown' };

/**
 * Finds what a request is for, by its method and the path of its URL as it was sent.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
 */
export function parsePullRoute(method: string, path: string): PullRoute {
  const route = routeOf(path);
  if (method === 'GET' || method === 'HEAD') return route;
  return route.kind === 'unknown' ? route : { kind: 'write' };
}

function routeOf(path: string): PullRoute {
  if (path === '/v2/' || path === '/v2') return { kind: 'base' };
  if (path === '/v2/_catalog') return { kind: 'catalog' };
  const found = splitApiPath(path);
  if (found === undefined) return { kind: 'unknown' };
  const { repository, kind, reference } = found;
  switch (kind) {
    case 'tags':
      return { kind, repository };
    case 'manifests':
      return { kind: 'manifest', repository, reference };
    case 'blobs':
      return { kind: 'blob', repository, digest: reference };
    case 'referrers':
      return { kind, repository, digest: reference };
    case 'uploads':
      return { kind: 'write' };
    default:
      return kind satisfies never;
  }
}
