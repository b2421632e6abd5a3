import { Failure } from '../../worker/util/failure.ts';
import { isRecord } from '../../worker/util/record.ts';
import { CallRefusal } from '../http/json-front.ts';

type Fields = Readonly<Record<string, unknown>>;

/** What fauxqs holds of a message. */
interface HeldMessage {
  readonly messageId: string;
  readonly body: string;
  readonly messageAttributes: Fields;
}

/** All messages of a queue, by what fauxqs believes of them: it looks at the time only when a client receives. */
interface HeldMessages {
  readonly ready: readonly HeldMessage[];
  readonly delayed: readonly { readonly delayUntil: number }[];
  readonly inflight: readonly { readonly visibilityDeadline: number; readonly message: HeldMessage }[];
}

/** fauxqs, in memory, without a port: calls go in by `inject`, so that no client bypasses the front. */
export interface Fauxqs extends AsyncDisposable {
  /** Throws the CallRefusal that it answers with. */
  call(action: string, input: Fields): Promise<Fields>;
  /** Everything in a queue that exists. Changes nothing. */
  inspect(queue: string): Promise<HeldMessages>;
}

/** The account of everything in fauxqs, which cannot be set. */
export const FAUXQS_ACCOUNT = '000000000000';

export async function startFauxqs(region: string): Promise<Fauxqs> {
  // loading takes a fifth of a second, so it happens only when the server is started
  const { buildApp } = await import('fauxqs');
  const app = buildApp({ logger: false, defaultRegion: region });
  await app.ready();
  const parse = (text: string): Fields => {
    const body: unknown = JSON.parse(text);
    if (!isRecord(body)) throw new Failure('BUG', 'ask fauxqs: its answer is not an object');
    return body;
  };
  return {
    call: async (action, input) => {
      const headers = { 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': `AmazonSQS.${action}` };
      const answer = await app.inject({ method: 'POST', url: '/', headers, payload: JSON.stringify(input) });
      const body = parse(answer.body);
      if (answer.statusCode === 200) return body;
      const code = String(body['__type']).replace(/^.*#/, '');
      throw new CallRefusal(answer.statusCode, code, String(body['message']));
    },
    inspect: async (queue) => {
      const answer = await app.inject({ method: 'GET', url: `/_fauxqs/queues/${queue}` });
      const { messages } = parse(answer.body) as { messages?: HeldMessages };
      if (messages === undefined) throw new Failure('BUG', `inspect queue ${queue} of fauxqs: ${answer.body}`);
      return messages;
    },
    [Symbol.asyncDispose]: async () => app.close(),
  };
}
