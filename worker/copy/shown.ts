import type { ResolveOptions, Source } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import { atSide, isFailure } from '../util/failure.ts';

/** What a target shows under tags and digests. Each is asked for once. */
export class Shown {
  readonly #target: Pick<Source, 'resolve'>;
  readonly #found = new Map<string, Promise<Digest | undefined>>();

  constructor(target: Pick<Source, 'resolve'>) {
    this.#target = target;
  }

  /** What a tag or a digest stands for now. Undefined where that is nothing, or where the target does not say. Failures carry `target`. */
  find(reference: string, options: ResolveOptions): Promise<Digest | undefined> {
    const known = this.#found.get(reference);
    if (known !== undefined) return known;
    const found = this.#ask(reference, options);
    this.#found.set(reference, found);
    found.catch(() => this.#found.delete(reference));
    return found;
  }

  /** Whether every one of `references` stands for `digest`. False for none. */
  async areAll(references: readonly string[], digest: Digest, options: ResolveOptions): Promise<boolean> {
    // what it does not show by its digest is not what a tag stands for
    if (this.#found.has(digest) && (await this.find(digest, options)) === undefined) return false;
    for (const reference of references) if ((await this.find(reference, options)) !== digest) return false;
    return references.length > 0;
  }

  /** Records that the target showed the manifest with this digest. */
  note(digest: Digest): void {
    this.#found.set(digest, Promise.resolve(digest));
  }

  async #ask(reference: string, options: ResolveOptions): Promise<Digest | undefined> {
    try {
      return (await this.#target.resolve(reference, { ...options, answersSinceMs: undefined, saysWhy: false })).digest;
    } catch (error) {
      // a repository that is about to be created, or credentials that may push but not look: the push fails with the reason
      if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
      throw atSide('target', error);
    }
  }
}
