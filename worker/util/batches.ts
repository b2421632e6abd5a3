/**
 * Items that are added one by one and worked on together: those that are added while a batch is under way make up the next one, of at most `max`.
 * No item waits for others to be added.
 */
export class Batches<T, R> {
  readonly #max: number;
  readonly #work: (items: readonly T[]) => Promise<readonly R[]>;
  #waiting: { readonly item: T; readonly resolve: (result: R) => void; readonly reject: (error: unknown) => void }[] =
    [];
  #isWorking = false;

  /** `work` returns a result for each item, in their order. What it throws is thrown to all that added one of them. */
  constructor(max: number, work: (items: readonly T[]) => Promise<readonly R[]>) {
    this.#max = max;
    this.#work = work;
  }

  /** Whether nothing waits or is under way. */
  get isIdle(): boolean {
    return !this.#isWorking && this.#waiting.length === 0;
  }

  /** The result of the item. */
  async add(item: T): Promise<R> {
    const { promise, resolve, reject } = Promise.withResolvers<R>();
    this.#waiting.push({ item, resolve, reject });
    if (!this.#isWorking) void this.#workOff();
    return promise;
  }

  /** Never rejects. */
  async #workOff(): Promise<void> {
    this.#isWorking = true;
    // those that are added in the same moment
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const some = this.#waiting.splice(0, this.#max);
      try {
        const results = await this.#work(some.map(({ item }) => item));
        for (const [index, { resolve, reject }] of some.entries()) {
          if (index < results.length) resolve(results[index] as R);
          else reject(new Error('a batch has fewer results than items'));
        }
      } catch (error) {
        for (const { reject } of some) reject(error);
      }
    }
    this.#isWorking = false;
  }
}
