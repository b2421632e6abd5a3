import { algorithmOf, digestOf, type Digest } from '../../worker/oci/digest.ts';
import {
  childrenOf,
  isForeign,
  isManifestType,
  MAX_MANIFEST_BYTES,
  parseManifest,
  type Manifest,
} from '../../worker/oci/manifest.ts';
import { isTag } from '../../worker/oci/reference.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { isFailure } from '../../worker/util/failure.ts';
import { json, refuse, requireDigest, type Answer, type Exchange } from './exchange.ts';
import type { Route } from './route.ts';
import { listCatalog, listReferrers, listTags, type ListContext } from './lists.ts';
import type { PushedManifest, Rules } from './rules.ts';
import { Seal } from './seal.ts';
import { describeManifest, type RegistryStore, type StoredManifest, type StoredRepository } from './store.ts';
import { Uploads } from './uploads.ts';

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md, over a store, as `rules` have it. */
export class Distribution {
  readonly #store: RegistryStore;
  readonly #rules: Rules;
  readonly #clock: Clock;
  readonly #lists: ListContext;
  readonly #uploads: Uploads;

  constructor(store: RegistryStore, rules: Rules, clock: Clock) {
    this.#store = store;
    this.#rules = rules;
    this.#clock = clock;
    this.#lists = { rules, seal: new Seal() };
    this.#uploads = new Uploads(store, rules);
  }

  async answer(exchange: Exchange, route: Route): Promise<Answer> {
    if ('repository' in route && (!NAME.test(route.repository) || route.repository.length > MAX_NAME)) {
      throw refuse(400, 'NAME_INVALID', `${JSON.stringify(route.repository)} is not a repository name`);
    }
    switch (route.kind) {
      case 'unknown':
      case 'token':
      case 'api':
      case 'layer-get':
      case 'layer-head':
        throw refuse(404, 'UNSUPPORTED', `a registry knows no ${exchange.method} ${exchange.url.pathname}`);
      case 'unsupported':
        throw refuse(405, 'UNSUPPORTED', `${exchange.method} is not supported here`, {
          headers: { allow: route.allow },
        });
      case 'base':
        return json({});
      case 'catalog-list':
        return listCatalog(exchange, this.#store, this.#lists);
      case 'tags-list':
        return listTags(exchange, this.#rules.repository(route.repository, false), this.#lists);
      case 'referrers-list':
        return listReferrers(
          exchange,
          { repository: this.#rules.repository(route.repository, false), subject: route.digest },
          this.#lists,
        );
      case 'manifest-head':
      case 'manifest-get':
        return this.#manifest(exchange, this.#rules.repository(route.repository, false), route.reference);
      case 'manifest-put':
        return this.#putManifest(exchange, route.repository, route.reference);
      case 'manifest-delete':
        return this.#deleteManifest(this.#rules.repository(route.repository, false), route.reference);
      case 'blob-head':
      case 'blob-get': {
        const { repository, digest, bytes } = this.#findBlob(route);
        return this.#rules.blob(exchange, repository, digest, bytes);
      }
      case 'blob-delete': {
        const { repository, digest } = this.#findBlob(route);
        this.#rules.deleteBlob(repository, digest);
        return { status: 202 };
      }
      case 'upload-post':
      case 'upload-get':
      case 'upload-patch':
      case 'upload-put':
      case 'upload-delete':
        return this.#uploads.answer(exchange, route);
      default:
        return route satisfies never;
    }
  }

  #manifest(exchange: Exchange, repository: StoredRepository, reference: string): Answer {
    const manifest = findManifest(repository, reference);
    const accept = exchange.headers.accept;
    if (accept !== undefined && !accepts(accept, manifest.mediaType)) {
      throw refuse(
        404,
        'MANIFEST_UNKNOWN',
        `the manifest is ${manifest.mediaType}, which the Accept header does not allow`,
      );
    }
    this.#rules.pulled(exchange, repository, manifest);
    const etag = `"${manifest.digest}"`;
    if (exchange.headers['if-none-match'] === etag) return { status: 304, headers: { etag } };
    return {
      status: 200,
      headers: { 'content-type': manifest.mediaType, 'docker-content-digest': manifest.digest, etag },
      body: { path: this.#store.path(manifest.digest), from: 0, bytes: manifest.bytes },
    };
  }

  async #putManifest(exchange: Exchange, name: string, reference: string): Promise<Answer> {
    const tag = reference.includes(':') ? undefined : reference;
    if (tag !== undefined && !isTag(tag)) throw refuse(400, 'MANIFEST_INVALID', `${JSON.stringify(tag)} is not a tag`);
    const asked = tag === undefined ? requireDigest(reference) : undefined;
    const bytes = await exchange.bodyUpTo(MAX_MANIFEST_BYTES);
    if (bytes === undefined) {
      throw refuse(413, 'SIZE_INVALID', `a manifest has ${MAX_MANIFEST_BYTES} bytes at most`);
    }
    const digest = digestOf(bytes, asked === undefined ? 'sha256' : algorithmOf(asked));
    if (asked !== undefined && asked !== digest) {
      throw refuse(400, 'DIGEST_INVALID', `the manifest is ${digest}, not ${asked}`);
    }
    const mediaType = (exchange.headers['content-type'] ?? '').replace(/;.*$/s, '').trim();
    const pushed: PushedManifest = { tag, digest, mediaType, bytes };
    const manifest = readManifest(pushed);
    const repository = this.#rules.repository(name, true);
    this.#rules.checkManifest(repository, pushed, manifest);
    const missing = missingIn(repository, manifest);
    if (missing.length > 0) throw this.#rules.missingChildren(repository, manifest, missing);
    const known = repository.manifests.get(digest);
    const stored = describeManifest(manifest, bytes, digest, this.#clock.now());
    if (known === undefined || known.archivedAtMs !== undefined || known.mediaType !== mediaType) {
      this.#store.putManifest(repository, stored, bytes);
    }
    if (tag !== undefined) this.#store.tag(repository, tag, digest);
    const subject = this.#rules.referrers === undefined ? undefined : stored.subject;
    return {
      status: 201,
      headers: {
        location: `${this.#rules.origin()}/v2/${repository.name}/manifests/${digest}`,
        'docker-content-digest': digest,
        ...(subject === undefined ? {} : { 'oci-subject': subject }),
      },
    };
  }

  #deleteManifest(repository: StoredRepository, reference: string): Answer {
    const manifest = findManifest(repository, reference);
    this.#rules.deleteManifest(repository, manifest, reference.includes(':') ? undefined : reference);
    return { status: 202 };
  }

  #findBlob(route: { readonly repository: string; readonly reference: string }): {
    readonly repository: StoredRepository;
    readonly digest: Digest;
    readonly bytes: number;
  } {
    const repository = this.#rules.repository(route.repository, false);
    const digest = requireDigest(route.reference);
    const bytes = repository.blobs.get(digest);
    if (bytes === undefined) throw refuse(404, 'BLOB_UNKNOWN', `${repository.name} has no blob ${digest}`);
    return { repository, digest, bytes };
  }
}

// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const MAX_NAME = 255;

function findManifest(repository: StoredRepository, reference: string): StoredManifest {
  const digest = reference.includes(':') ? requireDigest(reference) : repository.tags.get(reference);
  const manifest = digest === undefined ? undefined : repository.manifests.get(digest);
  if (manifest === undefined) throw refuse(404, 'MANIFEST_UNKNOWN', `${repository.name} has no manifest ${reference}`);
  return manifest;
}

function readManifest(pushed: PushedManifest): Manifest {
  try {
    return parseManifest(pushed.bytes, pushed.mediaType);
  } catch (error) {
    if (isFailure(error)) throw refuse(400, 'MANIFEST_INVALID', error.message);
    throw error;
  }
}

/** What the manifest names and its repository does not have. Layers that stay elsewhere are not asked for. */
function missingIn(repository: StoredRepository, manifest: Manifest): readonly Digest[] {
  return childrenOf(manifest)
    .filter((child) => {
      if (isForeign(child)) return false;
      if (manifest.kind !== 'index') return !repository.blobs.has(child.digest);
      return (
        !repository.manifests.has(child.digest) &&
        (isManifestType(child.mediaType) || !repository.blobs.has(child.digest))
      );
    })
    .map((child) => child.digest);
}

/** https://www.rfc-editor.org/rfc/rfc9110.html#section-12.5.1, without weights. */
function accepts(accept: string, mediaType: string): boolean {
  const type = mediaType.slice(0, mediaType.indexOf('/'));
  return accept.split(',').some((part) => {
    const range = part.replace(/;.*$/s, '').trim();
    return range === mediaType || range === '*/*' || range === `${type}/*`;
  });
}
