import { Failure } from '../util/failure.ts';

/** The parts of an upload of known size: where each lies, and the CRC-32 of those that are stored. */
export class Parts {
  readonly size: number;
  /** Bytes of every part but the last. */
  readonly partSize: number;
  readonly count: number;
  readonly done = new Map<number, number>();

  constructor(size: number, partSize: number) {
    this.size = size;
    this.partSize = partSize;
    this.count = Math.ceil(size / partSize);
  }

  offset(n: number): number {
    return (n - 1) * this.partSize;
  }

  length(n: number): number {
    return Math.min(this.partSize, this.size - this.offset(n));
  }

  /** BUG when `n` is no part, or not one of `bytes` bytes. */
  check(n: number, bytes: number, what: string): void {
    if (!Number.isInteger(n) || n < 1 || n > this.count)
      throw new Failure('BUG', `${what}: there is no part ${n} among ${this.count}`);
    if (bytes !== this.length(n))
      throw new Failure('BUG', `${what}: part ${n} has ${this.length(n)} bytes, ${bytes} were given`);
  }

  /** BUG unless every part is stored. */
  checkComplete(what: string): void {
    if (this.done.size !== this.count)
      throw new Failure('BUG', `${what}: only ${this.done.size} of ${this.count} parts are stored`);
  }
}
