import { describeFailure, isFailure, type Failure } from '../util/failure.ts';
import type { Finding } from './verify-result.ts';

/** So many images that cannot be asked, before any could, are no findings: the place cannot be looked at. */
const MANY = 10;

/** Images of a place that could not be asked. One of them is a finding, and the others are looked at. */
export class Unread {
  #looked = false;
  #count = 0;
  #first: Failure | undefined;

  /** An image could be asked. */
  looked(): void {
    this.#looked = true;
  }

  /** The finding of an image that could not be asked. Throws `error` where it is a bug, and where it seems to be about the whole place. */
  finding(at: string, error: unknown): Finding {
    if (!isFailure(error) || error.code === 'BUG' || error.code === 'ABORTED') throw error;
    this.#first ??= error;
    this.#count++;
    if (!this.#looked && this.#count >= MANY) throw this.#first;
    const { code } = error;
    return { kind: 'unread', at, message: `it could not be asked: ${describeFailure(error)}`, code };
  }

  /** Throws where no image could be asked: that says nothing about the place. */
  end(): void {
    if (!this.#looked && this.#first !== undefined) throw this.#first;
  }
}
