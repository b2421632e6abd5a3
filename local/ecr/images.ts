import { readFileSync } from 'node:fs';
import type { Digest } from '../../worker/oci/digest.ts';
import { append, highest } from '../../worker/util/lists.ts';
import type { Refusal } from '../registry/exchange.ts';
import type { StoredManifest, StoredRepository } from '../registry/store.ts';
import { holdersOf, tagsOf, type Ecr, type ImageStatus } from './ecr.ts';
import { apiError, invalid, seconds, type Input, type Json, type Operation } from './input.ts';
import { named, repositoryId, repositoryOf } from './repositories.ts';

const MAX_IDS = 100;

/** The operations on images. */
export const IMAGE_OPERATIONS: Readonly<Record<string, Operation>> = {
  DescribeImages: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const matches = readFilter(ecr, repository, input);
    const ids = input.optionalObjects('imageIds');
    if (ids === undefined) {
      const images = [...repository.manifests.values()].filter(matches).sort((a, b) => (a.digest < b.digest ? -1 : 1));
      const { page, nextToken } = input.page(images, (image) => image.digest);
      // looked up once for all: there may be ten thousand of each
      const tags = Map.groupBy(repository.tags, ([, digest]) => digest);
      const tagsHere = (image: StoredManifest): readonly string[] =>
        (tags.get(image.digest) ?? []).map(([tag]) => tag).sort();
      return {
        imageDetails: page.map((image) => describeImage(ecr, repository, image, tagsHere(image))),
        ...nextToken,
      };
    }
    input.forbid('imageIds', 'maxResults', 'nextToken');
    const found = ids.map(readImageId).map((id) => {
      const image = findImage(repository, id);
      if (typeof image === 'object' && matches(image)) return image;
      throw imageNotFound(ecr, repository, id);
    });
    return { imageDetails: found.map((image) => describeImage(ecr, repository, image)) };
  },

  ListImages: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const ids = [...repository.manifests.values()]
      .filter(readFilter(ecr, repository, input))
      .flatMap((image) => idsOf(repository, image));
    const keyOf = (id: ImageId): string => `${id.imageDigest} ${id.imageTag ?? ''}`;
    const { page, nextToken } = input.page(
      ids.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)),
      keyOf,
    );
    return { imageIds: page, ...nextToken };
  },

  BatchGetImage: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const images: object[] = [];
    const failures: object[] = [];
    for (const id of imageIdsOf(input)) {
      const image = findImage(repository, id);
      if (typeof image === 'string') {
        failures.push(failure(id, image));
      } else if (ecr.statusOf(image) !== 'ACTIVE') {
        failures.push(failure(id, 'ImageNotFound'));
      } else {
        ecr.recordPull(repository, image);
        images.push({
          ...repositoryId(ecr, repository),
          imageId: { ...id, imageDigest: image.digest },
          imageManifest: readFileSync(ecr.store.path(image.digest), 'utf8'),
          imageManifestMediaType: image.mediaType,
        });
      }
    }
    return { images, failures };
  },

  BatchDeleteImage: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const imageIds: ImageId[] = [];
    const failures: object[] = [];
    // what refers to what is judged once: a client that deletes a list and its images at once has to ask again for the images
    const listed = new Set(
      [...repository.manifests.values()]
        .filter((manifest) => manifest.kind === 'index')
        .flatMap((manifest) => manifest.children),
    );
    for (const id of imageIdsOf(input)) {
      const image = findImage(repository, id);
      if (typeof image === 'string') {
        failures.push(failure(id, image));
        continue;
      }
      const onlyTag =
        id.imageDigest === undefined && tagsOf(repository, image.digest).length > 1 ? id.imageTag : undefined;
      if (onlyTag === undefined && listed.has(image.digest)) {
        failures.push(failure(id, 'ImageReferencedByManifestList', holdersOf(repository, image.digest)));
        continue;
      }
      if (onlyTag === undefined) {
        append(imageIds, idsOf(repository, image));
        ecr.removeImage(repository, image);
      } else {
        imageIds.push({ imageDigest: image.digest, imageTag: onlyTag });
        ecr.removeTag(repository, onlyTag, image);
      }
    }
    return { imageIds, failures };
  },

  UpdateImageStorageClass: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const id = readImageId(input.object('imageId'));
    const to = input.oneOf('targetStorageClass', ['ARCHIVE', 'STANDARD']);
    const image = findImage(repository, id);
    if (typeof image === 'string') throw imageNotFound(ecr, repository, id);
    if (ecr.statusOf(image) !== (to === 'ARCHIVE' ? 'ACTIVE' : 'ARCHIVED')) {
      const message = 'The requested image storage class update is not supported.';
      throw apiError('ImageStorageClassUpdateNotSupportedException', message);
    }
    const imageStatus = to === 'ARCHIVE' ? ecr.archive(repository, image) : ecr.activate(repository, image);
    return { ...repositoryId(ecr, repository), imageId: { ...id, imageDigest: image.digest }, imageStatus };
  },
};

interface ImageId {
  readonly imageDigest?: string;
  readonly imageTag?: string;
}

function readImageId(value: Json): ImageId {
  const { imageDigest, imageTag } = value;
  return {
    ...(typeof imageDigest === 'string' ? { imageDigest } : {}),
    ...(typeof imageTag === 'string' ? { imageTag } : {}),
  };
}

function imageIdsOf(input: Input): readonly ImageId[] {
  const ids = input.optionalObjects('imageIds') ?? [];
  if (ids.length === 0 || ids.length > MAX_IDS) {
    throw invalid('imageIds', `Member must have length between 1 and ${MAX_IDS}`);
  }
  return ids.map(readImageId);
}

function idsOf(repository: StoredRepository, image: StoredManifest): ImageId[] {
  const imageDigest = image.digest;
  const tags = tagsOf(repository, image.digest);
  return tags.length === 0 ? [{ imageDigest }] : tags.map((imageTag) => ({ imageDigest, imageTag }));
}

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageFailure.html */
type FailureCode =
  | 'InvalidImageDigest'
  | 'MissingDigestAndTag'
  | 'ImageNotFound'
  | 'ImageTagDoesNotMatchDigest'
  | 'ImageReferencedByManifestList';

/** The image, or why it does not exist. */
function findImage(repository: StoredRepository, id: ImageId): StoredManifest | FailureCode {
  const { imageDigest, imageTag } = id;
  if (imageDigest === undefined && imageTag === undefined) return 'MissingDigestAndTag';
  if (imageDigest !== undefined && !/^sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})$/.test(imageDigest)) {
    return 'InvalidImageDigest';
  }
  const tagged = imageTag === undefined ? undefined : repository.tags.get(imageTag);
  if (imageTag !== undefined && tagged === undefined) return 'ImageNotFound';
  if (tagged !== undefined && imageDigest !== undefined && tagged !== imageDigest) return 'ImageTagDoesNotMatchDigest';
  return repository.manifests.get(tagged ?? (imageDigest as Digest)) ?? 'ImageNotFound';
}

function failure(id: ImageId, failureCode: FailureCode, holders: readonly StoredManifest[] = []): object {
  return { imageId: id, failureCode, failureReason: reasonOf(failureCode, holders) };
}

function reasonOf(code: FailureCode, holders: readonly StoredManifest[]): string {
  switch (code) {
    case 'InvalidImageDigest':
      return 'Invalid request parameters: image digest should satisfy the regex';
    case 'MissingDigestAndTag':
      return 'Invalid request parameters: both tag and digest cannot be null';
    case 'ImageNotFound':
      return 'Requested image not found';
    case 'ImageTagDoesNotMatchDigest':
      return 'Requested tag does not match the digest';
    case 'ImageReferencedByManifestList':
      return `Requested image referenced by manifest list: [${holders.map((holder) => holder.digest).join(', ')}]`;
    default:
      return code satisfies never;
  }
}

function imageNotFound(ecr: Ecr, repository: StoredRepository, id: ImageId): Refusal {
  const what = `{imageDigest:'${id.imageDigest ?? 'null'}', imageTag:'${id.imageTag ?? 'null'}'}`;
  const message = `The image with imageId ${what} does not exist within the ${named(ecr, repository)}`;
  return apiError('ImageNotFoundException', message);
}

/** Which images a `filter` wants; without one the active ones. */
function readFilter(ecr: Ecr, repository: StoredRepository, input: Input): (image: StoredManifest) => boolean {
  const { tagStatus = 'ANY', imageStatus = 'ACTIVE' } = input.optionalObject('filter') ?? {};
  const tagged = new Set(repository.tags.values());
  return (image) =>
    (imageStatus === 'ANY' || imageStatus === ecr.statusOf(image)) &&
    (tagStatus === 'ANY' || (tagStatus === 'TAGGED') === tagged.has(image.digest));
}

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html */
function describeImage(
  ecr: Ecr,
  repository: StoredRepository,
  image: StoredManifest,
  imageTags = tagsOf(repository, image.digest),
): object {
  const imageStatus: ImageStatus = ecr.statusOf(image);
  return {
    ...repositoryId(ecr, repository),
    imageDigest: image.digest,
    ...(imageTags.length === 0 ? {} : { imageTags }),
    imageSizeInBytes: sizeOf(repository, image),
    imagePushedAt: seconds(image.pushedAtMs),
    imageManifestMediaType: image.mediaType,
    ...(image.artifactType === undefined ? {} : { artifactMediaType: image.artifactType }),
    ...(image.subject === undefined ? {} : { subjectManifestDigest: image.subject }),
    ...(image.pulledAtMs === undefined ? {} : { lastRecordedPullTime: seconds(image.pulledAtMs) }),
    imageStatus,
    ...(image.archivedAtMs === undefined ? {} : { lastArchivedAt: seconds(image.archivedAtMs) }),
    ...(image.activatedAtMs === undefined ? {} : { lastActivatedAt: seconds(image.activatedAtMs) }),
  };
}

/** For a list, the size of the largest image in it. */
function sizeOf(repository: StoredRepository, image: StoredManifest): number {
  if (image.kind !== 'index') return image.contentBytes;
  return highest(
    image.children.map((child) => repository.manifests.get(child)?.contentBytes ?? 0),
    0,
  );
}
