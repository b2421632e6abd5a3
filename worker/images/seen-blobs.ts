import type { Digest } from '../oci/digest.ts';

/**
 * What a run found out about blobs, so that what many images share is looked at once. An answer is the fault that was found, or undefined for a blob
 * without a fault. Other failures, such as a registry that does not answer, are not remembered: the next image asks again.
 */
export class SeenBlobs {
  readonly #answers = new Map<string, Promise<string | undefined>>();

  /** Whether the bytes of a blob were asked for before. */
  has(place: string, digest: Digest): boolean {
    return this.#answers.has(`${place} ${digest}`);
  }

  /** The answer about a blob at a place, from `look` where nothing has asked before. */
  async once(place: string, digest: Digest, look: () => Promise<string | undefined>): Promise<string | undefined> {
    const key = `${place} ${digest}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    const answer = look();
    this.#answers.set(key, answer);
    try {
      return await answer;
    } catch (error) {
      this.#answers.delete(key);
      throw error;
    }
  }
}
