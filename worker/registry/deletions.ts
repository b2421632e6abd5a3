import type { Digest } from '../oci/digest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { withGrace } from '../util/grace.ts';
import { forEachOf } from '../util/limit.ts';
import { GRACE_MS } from '../util/stop.ts';
import type { RepositoryContext } from './context.ts';
import type { NotDeleted } from './ecr/deletions.ts';
import type { Manifests } from './manifests.ts';

/** A tag to remove, what it stands for, and the tags of the same image that stay. */
interface TagOf {
  readonly tag: string;
  readonly digest: Digest;
  readonly others: readonly string[];
}

/** Requests at once, to a registry that deletes one manifest a request. */
const AT_ONCE = 8;
/** Refusals that are, as long as nothing was deleted, most likely the registry's answer to every deletion. */
const OF_ALL = ['UNSUPPORTED', 'DENIED', 'UNAUTHENTICATED'] as const;

/**
 * Deletes from one repository as https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#content-management has it. Calls resolve to
 * what was not deleted, and may be repeated: what is gone counts as deleted. They fail where the registry deletes nothing at all: UNSUPPORTED,
 * DENIED.
 */
export class HttpDeletions {
  readonly #context: RepositoryContext;
  readonly #manifests: Manifests;
  /** Whether a deletion has succeeded: every refusal after that is about one manifest. */
  #deletes = false;
  /** Whether it was seen to delete an image with a tag. No tag is removed after that. */
  #deletesWithTag = false;

  constructor(context: RepositoryContext, manifests: Manifests) {
    this.#context = context;
    this.#manifests = manifests;
  }

  /** Deletes manifests with all their tags. */
  async deleteImages(digests: readonly Digest[], options: Abortable = {}): Promise<readonly NotDeleted[]> {
    const [first, ...rest] = digests;
    if (first === undefined) return [];
    const notDeleted: NotDeleted[] = [];
    let away: Failure | undefined;
    const one = async (digest: Digest, taskOptions: Abortable): Promise<void> => {
      try {
        // what was deleted before the registry went away is deleted, and has to be counted
        if (away !== undefined)
          throw new Failure(away.code, `delete ${this.#named}@${digest}: not tried any more: ${away.message}`);
        await this.#delete(digest, taskOptions);
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        if (!this.#deletes && isFailure(error, ...OF_ALL)) throw this.#refusal(error);
        if (error.retryable) away ??= error;
        notDeleted.push({ id: digest, failure: error });
      }
    };
    // a registry that deletes nothing is asked once
    await one(first, options);
    await forEachOf(rest, AT_ONCE, async (digest, taskOptions) => one(digest, taskOptions), options);
    return notDeleted;
  }

  /**
   * Removes tags from images that have others, one after the other. UNSUPPORTED, with the image put back, where the registry deletes the image
   * with its tag; that is tried once. A tag that is being removed when `signal` fires is finished first.
   */
  async removeTags(tags: readonly TagOf[], options: Abortable = {}): Promise<readonly NotDeleted[]> {
    const notDeleted: NotDeleted[] = [];
    // one after the other: after each it is seen that the image is still there
    for (const one of tags) {
      checkAborted(options);
      try {
        await this.#removeTag(one, options);
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        notDeleted.push({ id: one.tag, failure: error });
        // the registry is away
        if (error.retryable) {
          const left = tags.slice(tags.indexOf(one) + 1).map(({ tag }) => ({ id: tag, failure: error }));
          return [...notDeleted, ...left];
        }
      }
    }
    return notDeleted;
  }

  async #removeTag({ tag, digest, others }: TagOf, options: Abortable): Promise<void> {
    const what = `remove the tag ${this.#named}:${tag}`;
    if (this.#deletesWithTag) throw this.#tagsStay(what, 'the registry deletes an image with its tag');
    const found = await this.#manifests.find(tag, options);
    if (found === undefined) return;
    if (found.digest !== digest)
      throw new Failure('CONFLICT', `${what}: it stands for ${found.digest} by now, not for ${digest}; it stays`);
    const image = await this.#manifests.get(digest, options);
    const { clock } = this.#context;
    // a registry that deletes the image with the tag leaves it with this process alone
    await withGrace(GRACE_MS, async (patient) => this.#removeSeenTag({ tag, digest, others }, image, patient), {
      ...options,
      clock,
    });
  }

  async #removeSeenTag(
    { tag, digest, others }: TagOf,
    { descriptor: { mediaType }, bytes }: Awaited<ReturnType<Manifests['get']>>,
    options: Abortable,
  ): Promise<void> {
    const what = `remove the tag ${this.#named}:${tag}`;
    try {
      await this.#delete(tag, options);
    } catch (error) {
      if (!isFailure(error, 'UNSUPPORTED', 'INVALID', 'CORRUPT')) throw error;
      throw this.#tagsStay(what, describeFailure(error), error);
    }
    // some registries delete the image that a tag stands for
    if ((await this.#manifests.find(digest, options)) === undefined) {
      this.#deletesWithTag = true;
      await this.#putBack(what, others, mediaType, bytes, options);
      throw this.#tagsStay(what, `the registry deletes the image with it, which was put back as ${others.join(', ')}`);
    }
    if ((await this.#manifests.find(tag, options)) !== undefined) throw this.#tagsStay(what, 'it is still there');
  }

  async #putBack(
    what: string,
    tags: readonly string[],
    mediaType: string,
    bytes: Uint8Array,
    options: Abortable,
  ): Promise<void> {
    const lost: string[] = [];
    let cause: unknown;
    for (const tag of tags) {
      try {
        await this.#manifests.put(tag, mediaType, bytes, options);
      } catch (error) {
        lost.push(tag);
        cause = error;
      }
    }
    if (lost.length === 0) return;
    const where = `the registry deleted the image with it, which could not be put back as ${lost.join(', ')}`;
    throw new Failure('UNSUPPORTED', `${what}: ${where}: push it there again: ${describeFailure(cause)}`, { cause });
  }

  /** NOT_FOUND is success: another process was there before, or an answer was lost. */
  async #delete(reference: string, options: Abortable): Promise<void> {
    const { transport, name, scopes } = this.#context;
    const what = `delete ${this.#named}${reference.includes(':') ? '@' : ':'}${reference}`;
    const answer = await transport.send(
      {
        what,
        operation: 'delete-manifest',
        method: 'DELETE',
        url: `/v2/${name}/manifests/${reference}`,
        accept: [200, 202, 204, 404],
        scopes,
      },
      options,
    );
    if (answer.status !== 404) this.#deletes = true;
  }

  /** The failure of a registry that deletes nothing, with what to do about it. */
  #refusal(failure: Failure): Failure {
    if (failure.code !== 'UNSUPPORTED') return failure;
    return new Failure(
      'UNSUPPORTED',
      `${failure.message}; this registry does not allow deleting: enable it there (docker-registry: REGISTRY_STORAGE_DELETE_ENABLED=true)`,
      { cause: failure, context: failure.context },
    );
  }

  #tagsStay(what: string, why: string, cause?: Failure): Failure {
    return new Failure('UNSUPPORTED', `${what}: ${why}; tags alone cannot be deleted there`, {
      cause,
      context: cause?.context ?? {},
    });
  }

  get #named(): string {
    return `${this.#context.host}/${this.#context.name}`;
  }
}
