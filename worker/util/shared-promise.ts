/**
 * Work that is done once for all callers that need its result. Work that fails is forgotten, so the next call starts it again. A caller that
 * stops waiting does not stop it for the others.
 */
export class SharedPromise<T> {
  #current: Promise<T> | undefined;

  /** The work that was started last, unless it failed or was forgotten. */
  get current(): Promise<T> | undefined {
    return this.#current;
  }

  /** The current work; if no work is under way, starts it by `start` first. */
  get(start: () => Promise<T>): Promise<T> {
    return this.#current ?? this.replace(start());
  }

  /** Makes `started` the current work, and returns it. */
  replace(started: Promise<T>): Promise<T> {
    this.#current = started;
    started.catch(() => this.forget(started));
    return started;
  }

  /** Forgets the current work; with `which`, only if it is still that. */
  forget(which: Promise<T> | undefined = this.#current): void {
    if (this.#current === which) this.#current = undefined;
  }
}
