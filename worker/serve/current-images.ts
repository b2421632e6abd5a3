import type { ServedImages, ServedRepository } from '../images/served-images.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import { ServedNames } from './served-names.ts';

/** The age at which a request has the backup read again, without waiting for it. */
const STALE_MS = 5 * 60_000;
/** The age at which a request for a missing name has the backup read again, and waits for it. */
const SOONEST_MS = 30_000;

export interface CurrentImagesOptions {
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

/**
 * The repositories of a backup as it was when it was last read. What was backed up since is found by the next read; a read that fails changes
 * nothing.
 */
export class CurrentImages {
  readonly #images: ServedImages;
  readonly #options: CurrentImagesOptions;
  #names: ServedNames;
  #readMs: number;
  #reading: Promise<boolean> | undefined;

  /** INVALID where two repositories of `images` would have one name. */
  constructor(images: ServedImages, options: CurrentImagesOptions) {
    this.#images = images;
    this.#options = options;
    this.#names = new ServedNames(images.repositories);
    this.#readMs = options.clock.now();
  }

  /** The names of the repositories, in the order of lists. */
  get names(): readonly string[] {
    return this.#names.all;
  }

  /** As `ServedNames.find`. */
  find(name: string, namespace?: string): ServedRepository | undefined {
    if (this.#ageMs() >= STALE_MS) void this.#readAgain();
    return this.#names.find(name, namespace);
  }

  /** Reads the backup again, unless it was read a moment ago. Returns whether something changed. */
  async lookAgain(): Promise<boolean> {
    return this.#reading ?? (this.#ageMs() >= SOONEST_MS ? this.#readAgain() : false);
  }

  #ageMs(): number {
    return this.#options.clock.now() - this.#readMs;
  }

  async #readAgain(): Promise<boolean> {
    return (this.#reading ??= this.#read().finally(() => (this.#reading = undefined)));
  }

  async #read(): Promise<boolean> {
    this.#readMs = this.#options.clock.now();
    try {
      const repositories = await this.#images.again?.();
      if (repositories === undefined) return false;
      this.#names = new ServedNames(repositories);
      return true;
    } catch (error) {
      if (!isFailure(error)) throw error;
      const message = `${this.#images.description} cannot be read again, so what was there before is served: ${describeFailure(error)}`;
      this.#options.report?.({ type: 'warning', message });
      return false;
    }
  }
}
