import type { Digest } from '../../worker/oci/digest.ts';
import { compareListed } from '../../worker/oci/list-order.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { json, refuse, type Answer, type Exchange } from './exchange.ts';
import type { Rules } from './rules.ts';
import type { Seal } from './seal.ts';
import type { RegistryStore, StoredManifest, StoredRepository } from './store.ts';

export interface ListContext {
  readonly rules: Rules;
  /** Seals cursors, which clients hand back but do not make. */
  readonly seal: Seal;
}

export function listCatalog(exchange: Exchange, store: RegistryStore, context: ListContext): Answer {
  const { page, headers } = pageOf(exchange, [...store.repositories.keys()].sort(), (name) => name, context);
  return json({ repositories: page }, headers);
}

export function listTags(exchange: Exchange, repository: StoredRepository, context: ListContext): Answer {
  const { page, headers } = pageOf(exchange, [...repository.tags.keys()].sort(compareListed), (tag) => tag, context);
  return json({ name: repository.name, tags: page }, headers);
}

export function listReferrers(
  exchange: Exchange,
  route: { readonly repository: StoredRepository; readonly subject: Digest | undefined },
  context: ListContext,
): Answer {
  const { repository, subject } = route;
  const { rules } = context;
  if (rules.referrers === undefined) throw refuse(404, 'UNSUPPORTED', 'this registry has no referrers API');
  if (subject === undefined) throw refuse(400, 'DIGEST_INVALID', 'expected a digest after referrers/');
  const artifactType = exchange.url.searchParams.get('artifactType');
  const found = rules
    .referrers(repository, subject)
    .filter((manifest) => artifactType === null || manifest.artifactType === artifactType)
    .sort((a, b) => compareListed(a.digest, b.digest));
  const { page, headers } = pageOf(exchange, found, (manifest) => manifest.digest, context);
  const manifests = page.map(asDescriptor);
  return json(
    { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests },
    {
      ...headers,
      'content-type': MEDIA_TYPE.ociIndex,
      ...(artifactType === null ? {} : { 'oci-filters-applied': 'artifactType' }),
    },
  );
}

/** The part of a sorted list that the request asks for, and the Link to what comes behind it, which only this registry can read. */
function pageOf<T>(
  exchange: Exchange,
  items: readonly T[],
  keyOf: (item: T) => string,
  { rules, seal }: ListContext,
): { readonly page: readonly T[]; readonly headers: Readonly<Record<string, string>> } {
  const query = exchange.url.searchParams;
  const asked = query.get('n');
  if (asked !== null && !/^[0-9]{1,9}$/.test(asked)) throw rules.invalidParameter('n');
  const size = rules.pageSize(asked === null ? undefined : Number(asked));
  const cursorName = rules.opaqueLast ? 'last' : 'next';
  const cursor = query.get(cursorName);
  const after = cursor === null ? query.get('last') : seal.open(cursor);
  if (after === undefined) throw rules.invalidParameter(cursorName);
  const rest = after === null ? items : items.filter((item) => compareListed(keyOf(item), after) > 0);
  const page = rest.slice(0, size);
  const last = page.at(-1);
  if (last === undefined || page.length === rest.length) return { page, headers: {} };
  const next = new URLSearchParams(query);
  next.delete('last');
  next.set(cursorName, seal.close(keyOf(last)));
  return { page, headers: { link: `<${exchange.url.pathname}?${next.toString()}>; rel="next"` } };
}

function asDescriptor(manifest: StoredManifest): Descriptor {
  return {
    mediaType: manifest.mediaType,
    digest: manifest.digest,
    size: manifest.bytes,
    ...(manifest.artifactType === undefined ? {} : { artifactType: manifest.artifactType }),
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
  };
}
