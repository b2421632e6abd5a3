/** The error of every call to a backend that has crashed. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

/** Whether `work` ended by a crash, or by a failure that wraps one. Other failures are thrown. */
export async function crashed(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    // disposing a resource after the crash fails too
    for (let at = error; at instanceof Error; at = at instanceof SuppressedError ? at.error : at.cause)
      if (at instanceof Crash) return true;
    throw error;
  }
}

/** The points of one run at which it could be killed. */
export class CrashPoints {
  readonly offset: number;
  readonly #onCrash: (() => void) | undefined;
  #passed = 0;

  /** Crashes at the `at`-th point (counted from 1; Infinity: never). Unless `onCrash` ends the process, every later call throws Crash. */
  constructor(offset: number, onCrash?: () => void) {
    this.offset = offset;
    this.#onCrash = onCrash;
  }

  /** The points so far, including the one of the crash. */
  get count(): number {
    return this.#passed;
  }

  /** Throws Crash after the crash, so that nothing happens after it that the killed process could not have done. */
  alive(): void {
    if (this.#passed >= this.offset) throw new Crash(`crashed at write ${this.offset}`);
  }

  point(): void {
    this.alive();
    this.#passed++;
    if (this.#passed === this.offset) this.#onCrash?.();
    this.alive();
  }
}
