/**
 * One piece of work for everyone who waits for its result. Work that fails is forgotten, so the next caller starts it again; a caller that
 * stops waiting does not stop it for the others.
 */
export class SharedPromise<T> {
  #current: Promise<T> | undefined;

  /** What was started last and has not failed or been forgotten. */
  get current(): Promise<T> | undefined {
    return this.#current;
  }

  /** The current work, or `start()` where there is none. */
  get(start: () => Promise<T>): Promise<T> {
    return this.#current ?? this.replace(start());
  }

  /** Makes `started` the current work. */
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
