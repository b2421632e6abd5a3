import type { Abortable } from '../../util/abort.ts';
import type { Answer, HttpAnswer, HttpRequest, Layer } from './layer.ts';
import type { Origin } from './origin.ts';

/** Shows every answer of the registry itself to `observe`, refusals included, and passes it on. */
export class Observer implements Layer {
  readonly #inner: Layer;
  readonly #origin: Origin;
  readonly #observe: (answer: HttpAnswer) => void;

  constructor(inner: Layer, origin: Origin, observe: (answer: HttpAnswer) => void) {
    this.#inner = inner;
    this.#origin = origin;
    this.#observe = observe;
  }

  async send(request: HttpRequest, options: Abortable): Promise<Answer> {
    const answer = await this.#inner.send(request, options);
    if (this.#origin.isOwn(answer.url)) this.#observe(answer);
    return answer;
  }
}
