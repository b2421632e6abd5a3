import { Failure } from '../util/failure.ts';

/** The parts of an upload of known size: where each lies, and the CRC-32 of those that are stored, where it is known. */
export class Parts {
  readonly size: number;
  /** Bytes of every part but the last. */
  readonly partSize: number;
  readonly count: number;
  readonly done = new Map<number, number | undefined>();

  constructor(size: number, partSize: number) {
    this.size = size;
    this.partSize = partSize;
    this.count = Math.ceil(size / partSize);
  }

  offset(number: number): number {
    return (number - 1) * this.partSize;
  }

  length(number: number): number {
    return Math.min(this.partSize, this.size - this.offset(number));
  }

  /** BUG when `number` is not a part, or not one of `bytes` bytes. */
  check(number: number, bytes: number, what: string): void {
    if (!Number.isInteger(number) || number < 1 || number > this.count)
      throw new Failure('BUG', `${what}: there is no part ${number} among ${this.count}`);
    if (bytes !== this.length(number))
      throw new Failure('BUG', `${what}: part ${number} has ${this.length(number)} bytes, ${bytes} were given`);
  }

  /** BUG unless every part is stored. */
  checkComplete(what: string): void {
    if (this.done.size !== this.count)
      throw new Failure('BUG', `${what}: only ${this.done.size} of ${this.count} parts are stored`);
  }
}
