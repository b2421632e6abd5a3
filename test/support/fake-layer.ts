import assert from 'node:assert/strict';
import type { Answer, HttpRequest, Layer } from '../../worker/registry/transport/layer.ts';

/** The address of the registry in these tests. */
export const BASE = 'https://registry.example';

/** An answer of a fake layer. Default: 200 with an empty body. */
export interface FakeAnswer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Whether the body breaks off instead of ending. */
  readonly breaks?: true;
  /** The URL of the answer. Default: the URL of the request. */
  readonly url?: string;
  readonly ended?: Promise<void>;
}

export interface FakeLayer extends Layer {
  readonly requests: readonly HttpRequest[];
  /** How many bodies were discarded. */
  readonly discarded: number;
}

/** A layer that answers with `answers`, one after the other, and throws those that are errors. It expects no more requests than that. */
export function fakeLayer(...answers: readonly (FakeAnswer | Error)[]): FakeLayer {
  const requests: HttpRequest[] = [];
  let discarded = 0;
  return {
    requests,
    get discarded() {
      return discarded;
    },
    send: async (request) => {
      const answer = answers[requests.length];
      requests.push(request);
      assert.ok(answer, `${request.method} ${String(request.url)} was not expected`);
      if (answer instanceof Error) throw answer;
      return answerOf(answer, request, () => discarded++);
    },
  };
}

/** A request that reads `/v2/it`. */
export const READ: HttpRequest = {
  what: 'read it',
  operation: 'read-blob',
  method: 'GET',
  url: '/v2/it',
  accept: [200],
  scopes: ['repository:it:pull'],
};

function answerOf(answer: FakeAnswer, request: HttpRequest, discard: () => void): Answer {
  const { status = 200, headers = {}, body = '', breaks, ended = Promise.resolve() } = answer;
  const bytes = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.from(body);
    if (breaks === true) throw new Error('the body broke off');
  };
  return {
    status,
    header: (name) => headers[name],
    url: new URL(answer.url ?? String(request.url), BASE),
    body: bytes(),
    discard,
    text: async () => {
      if (breaks === true) throw new Error('the body broke off');
      return Buffer.from(body).toString();
    },
    ended,
  };
}
