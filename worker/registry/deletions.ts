import type { Digest } from '../oci/digest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { withGrace } from '../util/grace.ts';
import { forEachOf } from '../util/limit.ts';
import { STOP_SECONDS } from '../util/stop.ts';
import type { RepositoryContext } from './context.ts';
import type { Manifests } from './manifests.ts';

/** What was not deleted: a digest or a tag, and why. */
export interface NotDeleted {
  readonly id: string;
  readonly failure: Failure;
}

/** A tag that is to be removed, what it stands for, and the tags of the same image that stay. */
interface TagOf {
  readonly tag: string;
  readonly digest: Digest;
  readonly others: readonly string[];
}

/** How long the removal of a tag that has begun may take once the caller stops: half of what a process has. */
const GRACE_MS = (STOP_SECONDS * 1000) / 2;
/** Requests at once, to a registry that deletes one manifest a request. */
const AT_ONCE = 8;

/** Deletes from one repository as https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#content-management has it. */
export class HttpDeletions {
  readonly #context: RepositoryContext;
  readonly #manifests: Manifests;
  /** Whether a deletion has succeeded: refusals after that are about one manifest, and not about the registry. */
  #deletes = false;

  constructor(context: RepositoryContext, manifests: Manifests) {
    this.#context = context;
    this.#manifests = manifests;
  }

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
        if (!this.#deletes && digest === first) throw this.#refusal(error);
        if (error.retryable) away ??= error;
        notDeleted.push({ id: digest, failure: error });
      }
    };
    // a registry that deletes nothing is asked once
    await one(first, options);
    await forEachOf(rest, AT_ONCE, async (digest, taskOptions) => one(digest, taskOptions), options);
    return notDeleted;
  }

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
        // the registry is away, or would delete the next image too
        if (error.retryable || error.context['deletesWithTag'] === true) {
          const left = tags.slice(tags.indexOf(one) + 1).map(({ tag }) => ({ id: tag, failure: error }));
          return [...notDeleted, ...left];
        }
      }
    }
    return notDeleted;
  }

  async #removeTag({ tag, digest, others }: TagOf, options: Abortable): Promise<void> {
    const what = `remove the tag ${this.#named}:${tag}`;
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
      await this.#putBack(what, others, mediaType, bytes, options);
      const why = `the registry deletes the image with it, which was put back as ${others.join(', ')}`;
      throw new Failure('UNSUPPORTED', `${what}: ${why}; tags alone cannot be deleted there`, {
        context: { deletesWithTag: true },
      });
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
    for (const tag of tags) {
      try {
        await this.#manifests.put(tag, mediaType, bytes, options);
      } catch (error) {
        const lost = `${what}: the registry deleted the image with it, which could not be put back as ${tag}`;
        throw new Failure('UNSUPPORTED', `${lost}: push it there again: ${describeFailure(error)}`, {
          cause: error,
          context: { deletesWithTag: true },
        });
      }
    }
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

  /** A refusal of the first deletion, which is most likely the registry's answer to all. */
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
