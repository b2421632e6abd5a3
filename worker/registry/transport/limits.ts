import type { Abortable } from '../../util/abort.ts';
import type { Limit } from '../../util/limit.ts';
import type { Answer, HttpRequest, Layer } from './layer.ts';

/** Sends as many requests at once as `limit` allows, and none faster than its `admit`. A request counts until its exchange is over. */
export class Limits implements Layer {
  readonly #inner: Layer;
  readonly #limit: Limit;

  constructor(inner: Layer, limit: Limit) {
    this.#inner = inner;
    this.#limit = limit;
  }

  async send(request: HttpRequest, options: Abortable): Promise<Answer> {
    await request.admit?.(options);
    const giveBack = await this.#limit.take(1, options);
    try {
      const answer = await this.#inner.send(request, options);
      void answer.ended.then(giveBack);
      return answer;
    } catch (error) {
      giveBack();
      throw error;
    }
  }
}
