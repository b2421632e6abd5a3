import { MalformedAnswer } from './answer-head.ts';

/** The most bytes of the extensions of one chunk, and of all trailers: none is looked at. */
const MAX_SKIPPED_BYTES = 16 * 1024;
/** 2^52 bytes: sums stay exact. */
const MAX_SIZE_DIGITS = 13;
const [CR, LF, SEMICOLON, SPACE, TAB] = [13, 10, 59, 32, 9];

type State =
  'size' | 'extension' | 'size LF' | 'data' | 'data CR' | 'data LF' | 'trailer' | 'trailer LF' | 'end LF' | 'end';

/** Undoes the chunks of a body, piece by piece: https://www.rfc-editor.org/rfc/rfc9112#section-7.1 */
export class ChunkedBody {
  #state: State = 'size';
  /** What is left of the chunk; its size, as far as it was read. */
  #left = 0;
  #digits = 0;
  #skipped = 0;
  /** Whether the line of a trailer has begun. */
  #inTrailer = false;

  /** Whether the whole body was decoded. */
  get isEnded(): boolean {
    return this.#state === 'end';
  }

  /**
   * Moves the bytes of the body to the front of `bytes`. Returns how many they are, and how many bytes were looked at: all of them, unless the
   * body ended before. Throws MalformedAnswer.
   */
  decode(bytes: Uint8Array): { readonly decoded: number; readonly taken: number } {
    let decoded = 0;
    let at = 0;
    while (at < bytes.byteLength && this.#state !== 'end') {
      if (this.#state === 'data') {
        const size = Math.min(this.#left, bytes.byteLength - at);
        if (decoded !== at) bytes.copyWithin(decoded, at, at + size);
        decoded += size;
        at += size;
        this.#left -= size;
        if (this.#left === 0) this.#state = 'data CR';
      } else {
        this.#take(bytes[at++] ?? 0);
      }
    }
    return { decoded, taken: at };
  }

  #take(byte: number): void {
    switch (this.#state) {
      case 'size':
        return this.#takeOfSize(byte);
      case 'extension':
        if (byte === CR) this.#state = 'size LF';
        else this.#skip(byte);
        return;
      case 'size LF':
        this.#expect(LF, byte);
        this.#state = this.#left > 0 ? 'data' : 'trailer';
        return;
      case 'data CR':
        this.#expect(CR, byte);
        this.#state = 'data LF';
        return;
      case 'data LF':
        this.#expect(LF, byte);
        this.#state = 'size';
        this.#digits = 0;
        return;
      case 'trailer':
        if (byte === CR) this.#state = this.#inTrailer ? 'trailer LF' : 'end LF';
        else this.#skip(byte);
        this.#inTrailer = true;
        return;
      case 'trailer LF':
        this.#expect(LF, byte);
        this.#state = 'trailer';
        this.#inTrailer = false;
        return;
      case 'end LF':
        this.#expect(LF, byte);
        this.#state = 'end';
        return;
      case 'data':
      case 'end':
        return;
      default:
        this.#state satisfies never;
    }
  }

  #takeOfSize(byte: number): void {
    const digit = digitOf(byte);
    if (digit !== undefined && this.#digits < MAX_SIZE_DIGITS) {
      this.#left = this.#left * 16 + digit;
      this.#digits++;
      return;
    }
    if (this.#digits === 0) throw malformed();
    this.#skipped = 0;
    if (byte === CR) this.#state = 'size LF';
    else if (byte === SEMICOLON || byte === SPACE || byte === TAB) this.#state = 'extension';
    else throw malformed();
  }

  #skip(byte: number): void {
    if (byte === LF || ++this.#skipped > MAX_SKIPPED_BYTES) throw malformed();
  }

  #expect(expected: number, byte: number): void {
    if (byte !== expected) throw malformed();
  }
}

function digitOf(byte: number): number | undefined {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : undefined;
}

function malformed(): MalformedAnswer {
  return new MalformedAnswer('the chunks of the answer are malformed');
}
