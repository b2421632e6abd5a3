import type * as Sdk from '@aws-sdk/client-ecr';
import { parseDigest, type Digest } from '../../oci/digest.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { Failure, ifFound, type Code } from '../../util/failure.ts';
import { ACTIONS } from './actions.ts';
import type { EcrClient } from './client.ts';
import { repositoryTags } from './repositories.ts';

/** What was not deleted, and why. `id` is a digest, or the tag whose removal was asked for. */
export interface NotDeleted {
  readonly id: string;
  readonly failure: Failure;
}

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html */
const IDS_PER_CALL = 100;

/**
 * Deletes from one repository of ECR, a hundred images a call. Calls return what was not deleted; what is gone counts as deleted. DENIED names the
 * action.
 */
export class EcrDeletions {
  /** The repository itself. */
  readonly whole: {
    tags(options?: Abortable): Promise<Readonly<Record<string, string>> | undefined>;
    remove(options?: Abortable): Promise<void>;
  };
  readonly #client: EcrClient;
  readonly #name: string;

  constructor(client: EcrClient, name: string) {
    this.#client = client;
    this.#name = name;
    this.whole = {
      tags: async (options = {}) => ifFound(repositoryTags(client, name, options)),
      remove: async (options = {}) => deleteRepository(client, name, options),
    };
  }

  /** Deletes images with all their tags. CONFLICT for one that an index names. */
  async deleteImages(digests: readonly Digest[], options: Abortable = {}): Promise<readonly NotDeleted[]> {
    const ids = digests.map((imageDigest) => ({ imageDigest }));
    return deleteIds(this.#client, this.#name, ids, options);
  }

  /** Removes tags of images that have others: ECR deletes an image with its last tag. */
  async removeTags(
    tags: readonly { readonly tag: string; readonly digest: Digest }[],
    options: Abortable = {},
  ): Promise<readonly NotDeleted[]> {
    // with the digest beside it, it is not documented whether the tag goes or the image
    const ids = tags.map(({ tag }) => ({ imageTag: tag }));
    return deleteIds(this.#client, this.#name, ids, options);
  }
}

/** Deletes a repository with its images. Success where it does not exist. */
async function deleteRepository(client: EcrClient, name: string, options: Abortable): Promise<void> {
  const call = client.call(
    `delete repository ${client.host}/${name}`,
    'ecr:DeleteRepository',
    options,
    async (ecr, sdkOptions) => ecr.deleteRepository({ ...client.idOf(name), force: true }, sdkOptions),
  );
  await ifFound(call);
}

async function deleteIds(
  client: EcrClient,
  repository: string,
  ids: readonly Sdk.ImageIdentifier[],
  options: Abortable,
): Promise<readonly NotDeleted[]> {
  const named = `${client.host}/${repository}`;
  const notDeleted: NotDeleted[] = [];
  for (let at = 0; at < ids.length; at += IDS_PER_CALL) {
    checkAborted(options);
    const imageIds = ids.slice(at, at + IDS_PER_CALL);
    const call = client.call(
      `delete images of ${named}`,
      ACTIONS['delete-manifest'],
      options,
      async (ecr, sdkOptions) => ecr.batchDeleteImage({ ...client.idOf(repository), imageIds }, sdkOptions),
    );
    // without the repository there are no images any more
    const answer = await ifFound(call);
    for (const { imageId, failureCode, failureReason } of answer?.failures ?? []) {
      if (failureCode === 'ImageNotFound') continue;
      const id = imageId?.imageTag ?? parseDigest(imageId?.imageDigest);
      const [code, why] = meaningOf(failureCode, failureReason);
      const failure = new Failure(code, `delete ${named}${imageId?.imageTag === undefined ? '@' : ':'}${id}: ${why}`);
      notDeleted.push({ id, failure });
    }
  }
  return notDeleted;
}

function meaningOf(code: string | undefined, reason: string | undefined): readonly [Code, string] {
  const said = `ECR answered ${code ?? 'without a code'}${reason === undefined ? '' : `: ${reason}`}`;
  if (code === 'ImageReferencedByManifestList') return ['CONFLICT', `an index names it, so it stays (${said})`];
  return [code === 'KmsError' ? 'DENIED' : 'INVALID', said];
}
