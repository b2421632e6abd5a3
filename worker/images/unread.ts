import { describeFailure, isFailure, type Failure } from '../util/failure.ts';
import type { Finding } from './verify-result.ts';

/** When this many images cannot be asked, and none could before, the place itself is taken for unreadable. */
const MANY = 10;

/** Counts images of a place that could not be asked. Each is a finding, and the others are looked at. */
export class Unread {
  #looked = false;
  #count = 0;
  #first: Failure | undefined;

  /** Notes that an image could be asked. */
  looked(): void {
    this.#looked = true;
  }

  /** The finding for an image that could not be asked. Throws where the failure is a bug, or seems to be about the whole place. */
  finding(at: string, error: unknown): Finding {
    if (!isFailure(error) || error.code === 'BUG' || error.code === 'ABORTED') throw error;
    this.#first ??= error;
    this.#count++;
    if (!this.#looked && this.#count >= MANY) throw this.#first;
    const { code } = error;
    return { kind: 'unread', at, message: `it could not be asked: ${describeFailure(error)}`, code };
  }

  /** To be called last. Throws where no image could be asked: that proves nothing about the place. */
  end(): void {
    if (!this.#looked && this.#first !== undefined) throw this.#first;
  }
}
