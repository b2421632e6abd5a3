import type { Digest } from '../../worker/oci/digest.ts';
import { childrenOf, type Manifest } from '../../worker/oci/manifest.ts';
import { holdersOf, isImmutable, tagsOf, type Ecr } from './ecr.ts';
import { parseBasic } from '../registry/auth.ts';
import type { Rules } from '../registry/rules.ts';
import { refuse, Refusal, type Exchange } from '../registry/exchange.ts';
import type { Route } from '../registry/route.ts';
import type { StoredManifest } from '../registry/store.ts';

// https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
const MIN_PART_BYTES = 5 * 1024 * 1024;
const DEFAULT_PAGE = 100;
// https://github.com/google/go-containerregistry/issues/681
const MAX_PAGE = 1000;

/** Lets a request to `/v2/` in as ECR does: Basic with its token, then what IAM allows. */
export function checkEcrAccess(ecr: Ecr, exchange: Exchange, route: Route): void {
  const credentials = parseBasic(exchange.headers.authorization);
  if (credentials === undefined) {
    throw plain(401, 'Not Authorized', {
      'www-authenticate': `Basic realm="https://${ecr.host}/",service="ecr.amazonaws.com"`,
    });
  }
  const { state } = ecr.tokens.open(credentials.password);
  // not JSON, and not 401: https://github.com/awslabs/amazon-ecr-credential-helper/issues/7
  if (state === 'expired') throw plain(403, 'Your authorization token has expired. Reauthenticate and try again.');
  // a token of another region too: https://github.com/aws/aws-cli/issues/5317
  if (state === 'invalid' || credentials.user !== 'AWS') throw plain(400, 'Bad Request');
  const repository = 'repository' in route ? route.repository : '*';
  for (const action of actionsOf(exchange, route)) {
    const denial = ecr.denialOf(action, ecr.arnOf(repository));
    if (denial !== undefined) throw refuse(403, 'DENIED', denial);
  }
}

/**
 * How `/v2/` of Amazon ECR differs from what the specification asks for. `origin` is where it is reached, `presign` makes the address that
 * a layer is fetched from.
 */
export function ecrRules(
  ecr: Ecr,
  options: { readonly origin: () => string; readonly presign: (digest: Digest) => string },
): Rules {
  return {
    origin: options.origin,
    repository: (name) => {
      const found = ecr.store.repositories.get(name);
      if (found !== undefined) return found;
      const message = `The repository with name '${name}' does not exist in the registry with id '${ecr.account}'`;
      throw refuse(404, 'NAME_UNKNOWN', message);
    },
    ...uploadRules(ecr),
    ...blobRules(ecr, options.presign),
    ...manifestRules(ecr),
    opaqueLast: true,
    pageSize: (asked) => {
      if (asked !== undefined && (asked < 1 || asked > MAX_PAGE)) throw invalid('maxResults');
      return asked ?? DEFAULT_PAGE;
    },
    invalidParameter: (name) => invalid(name === 'n' ? 'maxResults' : 'nextToken'),
  };
}

function uploadRules(
  ecr: Ecr,
): Pick<
  Rules,
  'movingLocations' | 'singlePost' | 'chunkStatus' | 'rangeOf' | 'checkChunk' | 'checkComplete' | 'digestMismatch'
> {
  return {
    movingLocations: false,
    // not confirmed that ECR takes a blob in one POST; the specification lets it begin an upload instead
    singlePost: false,
    // https://github.com/aws/containers-roadmap/issues/2831: 201, and a Range that stays what it was after the first chunk
    chunkStatus: 201,
    rangeOf: (upload) => `0-${Math.max(0, (upload.parts[0] ?? 0) - 1)}`,
    checkChunk: (upload, from = 0) => {
      // https://github.com/apple/container/issues/1895: a client that does not name where the bytes begin means the beginning
      if (from === upload.bytes) return;
      const message = `First byte of the layer part is ${from} instead of ${upload.bytes}`;
      throw refuse(416, 'BLOB_UPLOAD_INVALID', message);
    },
    checkComplete: (upload) => {
      // https://github.com/radius-project/radius/issues/7855
      if (upload.bytes === 0) {
        const where = `in the repository with name '${upload.repository}' in registry with id '${ecr.account}'`;
        const message = `The upload with id '${upload.id}' ${where} cannot be completed because it does not have any parts.`;
        throw refuse(400, 'BLOB_UPLOAD_INVALID', message);
      }
      // https://github.com/dotnet/sdk-container-builds/issues/424
      if (upload.parts.slice(0, -1).some((bytes) => bytes < MIN_PART_BYTES)) {
        throw refuse(400, 'BLOB_UPLOAD_INVALID', 'All layer parts except the last part should be at least 5MB');
      }
    },
    digestMismatch: () =>
      refuse(400, 'BLOB_UPLOAD_INVALID', 'None of the provided layer digests match the computed layer digest'),
  };
}

function blobRules(ecr: Ecr, presign: (digest: Digest) => string): Pick<Rules, 'mayMount' | 'blob' | 'deleteBlob'> {
  const { store } = ecr;
  return {
    // opt-in, one key for both, and only what a manifest names: https://github.com/aws/containers-roadmap/issues/2860
    mayMount: (to, from, digest) =>
      store.account.get('BLOB_MOUNTING') === 'ENABLED' &&
      to.settings.encryption.encryptionType === from.settings.encryption.encryptionType &&
      to.settings.encryption.kmsKey === from.settings.encryption.kmsKey &&
      ecr.denialOf('ecr:GetDownloadUrlForLayer', ecr.arnOf(from.name)) === undefined &&
      holdersOf(from, digest).length > 0,
    blob: (exchange, repository, digest, bytes) => {
      if (exchange.method === 'HEAD') {
        const headers = {
          'content-type': 'application/octet-stream',
          'docker-content-digest': digest,
        };
        return { status: 200, headers, body: { path: store.path(digest), from: 0, bytes } };
      }
      if (!holdersOf(repository, digest).some((image) => ecr.statusOf(image) === 'ACTIVE')) {
        // https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html
        const message = 'The specified layer is not available because it is not associated with an image';
        throw refuse(404, 'BLOB_UNKNOWN', message);
      }
      return { status: 307, headers: { location: presign(digest) } };
    },
    deleteBlob: () => {
      throw refuse(405, 'UNSUPPORTED', 'The operation is unsupported.');
    },
  };
}

function manifestRules(
  ecr: Ecr,
): Pick<Rules, 'checkManifest' | 'missingChildren' | 'pulled' | 'deleteManifest' | 'referrers'> {
  return {
    checkManifest: (repository, pushed, manifest) => {
      if (!ecr.mayPut()) throw refuse(429, 'TOOMANYREQUESTS', 'Rate exceeded');
      checkMediaTypes(manifest);
      // even when it is the same image: https://github.com/aws/containers-roadmap/issues/2380
      if (pushed.tag === undefined || !repository.tags.has(pushed.tag) || !isImmutable(repository.settings, pushed.tag))
        return;
      const message = `The image tag '${pushed.tag}' already exists in the '${repository.name}' repository and cannot be overwritten because the repository is immutable.`;
      throw refuse(400, 'TAG_INVALID', message);
    },
    missingChildren: (repository, manifest, missing) => {
      const what = manifest.kind === 'index' ? 'Images' : 'Layers';
      const message = `${what} with digests '[${missing.join(', ')}]' required for pushing image into repository with name '${repository.name}' in the registry with id '${ecr.account}' do not exist`;
      return refuse(400, 'MANIFEST_BLOB_UNKNOWN', message);
    },
    pulled: (exchange, repository, image) => {
      if (ecr.statusOf(image) !== 'ACTIVE') throw refuse(404, 'MANIFEST_UNKNOWN', 'Requested image not found');
      if (exchange.method !== 'HEAD') ecr.recordPull(repository, image);
    },
    deleteManifest: (repository, image, tag) => {
      const untagsOnly = tag !== undefined && tagsOf(repository, image.digest).length > 1;
      const holders = untagsOnly ? [] : holdersOf(repository, image.digest);
      if (holders.length > 0) {
        const lists = holders.map((holder) => holder.digest).join(', ');
        throw refuse(400, 'UNSUPPORTED', `Requested image referenced by manifest list: [${lists}]`);
      }
      if (tag === undefined) ecr.removeImage(repository, image);
      else ecr.removeTag(repository, tag, image);
    },
    referrers: (repository, subject) =>
      [...repository.manifests.values()].filter((manifest) => isActiveReferrer(ecr, manifest, subject)),
  };
}

/** The IAM actions that a request to `/v2/` needs: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html */
function actionsOf(exchange: Exchange, route: Route): readonly `ecr:${string}`[] {
  switch (route.kind) {
    case 'catalog-list':
      return ['ecr:DescribeRepositories'];
    case 'tags-list':
      return ['ecr:ListImages'];
    case 'referrers-list':
    case 'manifest-head':
    case 'manifest-get':
      return ['ecr:BatchGetImage'];
    case 'manifest-put':
      return ['ecr:PutImage'];
    case 'manifest-delete':
      return ['ecr:BatchDeleteImage'];
    case 'blob-head':
      return ['ecr:BatchCheckLayerAvailability'];
    case 'blob-get':
      return ['ecr:GetDownloadUrlForLayer'];
    case 'upload-post':
      return ['ecr:InitiateLayerUpload'];
    case 'upload-patch':
      return ['ecr:UploadLayerPart'];
    case 'upload-put':
      return exchange.hasBody ? ['ecr:UploadLayerPart', 'ecr:CompleteLayerUpload'] : ['ecr:CompleteLayerUpload'];
    case 'upload-get':
    case 'upload-delete':
    case 'blob-delete':
    case 'base':
    case 'token':
    case 'api':
    case 'layer-get':
    case 'layer-head':
    case 'unknown':
    case 'unsupported':
      return [];
    default:
      return route satisfies never;
  }
}

/** https://github.com/aws/containers-roadmap/issues/2306: a media type with parameters is an invalid parameter, which ECR calls 405. */
function checkMediaTypes(manifest: Manifest): void {
  const named = [...childrenOf(manifest), ...(manifest.subject === undefined ? [] : [manifest.subject])];
  const types = [
    manifest.artifactType,
    ...named.flatMap((descriptor) => [descriptor.mediaType, descriptor.artifactType]),
  ];
  if (types.some((type) => type?.includes(';') === true)) throw invalid('ImageManifest');
}

function isActiveReferrer(ecr: Ecr, manifest: StoredManifest, subject: Digest): boolean {
  return manifest.subject === subject && ecr.statusOf(manifest) === 'ACTIVE';
}

/** ECR answers 405 to every invalid parameter: https://github.com/google/go-containerregistry/issues/681 */
function invalid(parameter: string): Refusal {
  return refuse(405, 'UNSUPPORTED', `Invalid parameter at '${parameter}' failed to satisfy constraint`);
}

function plain(status: number, text: string, headers: Readonly<Record<string, string>> = {}): Refusal {
  return new Refusal(text, {
    status,
    headers: { 'content-type': 'text/plain; charset=utf-8', ...headers },
    body: text,
  });
}
