import { orAborted, type Abortable } from '../util/abort.ts';
import { isFailure } from '../util/failure.ts';
import type { RepositoryContext } from './context.ts';
import { fewNames } from './pages.ts';

/**
 * The tags of one repository, listed for many callers at once. Each gets a list that was begun after it asked, so that a tag which is not in it
 * was absent after the caller's question. Callers that ask while a list is read share the next one.
 */
export class TagList {
  readonly #context: RepositoryContext;
  #running: Promise<ReadonlySet<string> | undefined> | undefined;
  #next: Promise<ReadonlySet<string> | undefined> | undefined;

  constructor(context: RepositoryContext) {
    this.#context = context;
  }

  /** Every tag. Undefined where that takes more than a few requests, or the registry does not list them. */
  async read(options: Abortable): Promise<ReadonlySet<string> | undefined> {
    this.#next ??= this.#after(this.#running);
    return orAborted(this.#next, options);
  }

  async #after(before: Promise<unknown> | undefined): Promise<ReadonlySet<string> | undefined> {
    await before?.catch(() => undefined);
    const listing = this.#list();
    this.#running = listing;
    this.#next = undefined;
    try {
      return await listing;
    } finally {
      if (this.#running === listing) this.#running = undefined;
    }
  }

  async #list(): Promise<ReadonlySet<string> | undefined> {
    const { transport, host, name, scopes } = this.#context;
    const what = `list tags of ${host}/${name}`;
    const url = `/v2/${name}/tags/list`;
    try {
      // for all callers: none of them breaks it off
      return await fewNames(transport, { what, operation: 'list-tags', url, member: 'tags', scopes }, {});
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND', 'DENIED', 'UNAUTHENTICATED', 'UNSUPPORTED', 'INVALID')) return undefined;
      throw error;
    }
  }
}
