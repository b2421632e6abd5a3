import { collect } from '../../content/bytes.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import { decoded } from './content-encoding.ts';
import type { HttpAnswer, HttpRequest, Layer } from './layer.ts';

export interface WholeRequest extends HttpRequest {
  /** The most bytes that the body may have. */
  readonly limit: number;
}

/** An answer with its whole body. */
export interface WholeAnswer extends HttpAnswer {
  readonly bytes: Buffer;
}

/** Reads the whole body of each answer, without its Content-Encoding. UNSUPPORTED when it is longer than the request's limit. */
export class WholeBody implements Layer<WholeRequest, WholeAnswer> {
  readonly #inner: Layer;

  constructor(inner: Layer) {
    this.#inner = inner;
  }

  async send(request: WholeRequest, options: Abortable): Promise<WholeAnswer> {
    const { what, limit } = request;
    const { status, header, url, body } = await this.#inner.send(request, options);
    const tooLong = (): Failure =>
      new Failure('UNSUPPORTED', `${what}: the answer is longer than ${limit} bytes`, { context: { tooLong: true } });
    const bytes = await decoded(what, { header }, await collect(body, limit, tooLong), limit);
    return { status, header, url, bytes };
  }
}
