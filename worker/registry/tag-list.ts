import { orAborted } from '../util/abort.ts';
import { isFailure } from '../util/failure.ts';
import type { AnswerOptions } from '../content/content.ts';
import type { RepositoryContext, TagListing } from './context.ts';
import { fewNames } from './pages.ts';

/** What cannot be listed is asked for tag by tag, so that a list which takes the registry too long does not block other work. */
const ATTEMPTS = 2;

/**
 * The tags of one repository, listed for many callers at once. Each gets a list that was begun after it asked, so that a tag which is not in it
 * was absent after the caller's question, or after the moment that the caller names. Callers that ask while a list is read share the next one.
 */
export class TagList {
  readonly #context: RepositoryContext;
  #running: TagListing | undefined;
  #next: Promise<ReadonlySet<string> | undefined> | undefined;
  /** Whether the registry answers here at all: waiting for it once is enough. */
  #answers = true;

  constructor(context: RepositoryContext) {
    this.#context = context;
  }

  /** Every tag. Undefined where that takes more than a few requests, or the registry does not list them, for whatever reason. */
  async read(options: AnswerOptions): Promise<ReadonlySet<string> | undefined> {
    if (!this.#answers) return undefined;
    const { answersSinceMs } = options;
    if (answersSinceMs !== undefined) {
      const listing = this.#running ?? this.#context.tagLists.get(this.#context.name);
      if (listing !== undefined && listing.begunMs >= answersSinceMs) return orAborted(listing.tags, options);
    }
    this.#next ??= this.#after(this.#running?.tags);
    return orAborted(this.#next, options);
  }

  async #after(before: Promise<unknown> | undefined): Promise<ReadonlySet<string> | undefined> {
    await before?.catch(() => undefined);
    const listing = { begunMs: this.#context.clock.now(), tags: this.#list() };
    this.#running = listing;
    this.#next = undefined;
    try {
      return await listing.tags;
    } finally {
      this.#context.tagLists.set(this.#context.name, listing);
      if (this.#running === listing) this.#running = undefined;
    }
  }

  async #list(): Promise<ReadonlySet<string> | undefined> {
    const { transport, host, name, scopes } = this.#context;
    const what = `list tags of ${host}/${name}`;
    const url = `/v2/${name}/tags/list`;
    try {
      // for all callers: none of them breaks it off
      const request = { what, operation: 'list-tags', url, member: 'tags', scopes, attempts: ATTEMPTS } as const;
      return await fewNames(transport, request, {});
    } catch (error) {
      if (!isFailure(error) || error.code === 'ABORTED' || error.code === 'BUG') throw error;
      if (error.code === 'UNAVAILABLE') this.#answers = false;
      return undefined;
    }
  }
}
