import { FAUXQS_ACCOUNT, type Fauxqs } from './fauxqs.ts';
import { invalid, nameOf, noQueue, parseRecord, recordOf, swapAccount, textOf, urlOf, type Fields } from './fields.ts';

export interface QueueSetup {
  readonly name: string;
  /** Default 30. */
  readonly visibilitySeconds?: number;
  /** Default 345,600: four days. Kept and never acted upon. */
  readonly retentionSeconds?: number;
  /** Where messages go when they were received too often. */
  readonly deadLetters?: { readonly queue: string; readonly maxReceiveCount: number };
}

const COUNTS = [
  'ApproximateNumberOfMessages',
  'ApproximateNumberOfMessagesNotVisible',
  'ApproximateNumberOfMessagesDelayed',
];

/** The queues of fauxqs, under the account and at the address that clients know. */
export class Queues {
  readonly #fauxqs: Fauxqs;
  readonly #region: string;
  readonly #account: string;
  readonly #origin: () => string;

  constructor(
    fauxqs: Fauxqs,
    options: { readonly region: string; readonly account: string; readonly origin: () => string },
  ) {
    this.#fauxqs = fauxqs;
    this.#region = options.region;
    this.#account = options.account;
    this.#origin = options.origin;
  }

  /** The URL that a queue of this name has, whether it exists or not. */
  url(name: string): string {
    return `${this.#origin()}/${this.#account}/${name}`;
  }

  /** Makes a queue where it does not exist. */
  async setUp(setup: QueueSetup): Promise<void> {
    const { name, visibilitySeconds, retentionSeconds, deadLetters } = setup;
    const attributes: Record<string, string> = {};
    if (visibilitySeconds !== undefined) attributes['VisibilityTimeout'] = String(visibilitySeconds);
    if (retentionSeconds !== undefined) attributes['MessageRetentionPeriod'] = String(retentionSeconds);
    if (deadLetters !== undefined) {
      const { queue, maxReceiveCount } = deadLetters;
      attributes['RedrivePolicy'] = JSON.stringify({ deadLetterTargetArn: this.arn(queue), maxReceiveCount });
    }
    await this.create({ QueueName: name, Attributes: attributes });
  }

  /** Makes a call on a queue of this account. */
  async forward(action: string, input: Fields): Promise<Fields> {
    const { pathname } = urlOf(input);
    if (pathname !== `/${this.#account}/${nameOf(input)}`) throw noQueue();
    return this.#fauxqs.call(action, input);
  }

  async create(input: Fields): Promise<Fields> {
    await this.#fauxqs.call('CreateQueue', { ...input, Attributes: await this.toFauxqs(input['Attributes']) });
    return { QueueUrl: this.url(textOf(input, 'QueueName')) };
  }

  async list(input: Fields): Promise<Fields> {
    const answer = await this.#fauxqs.call('ListQueues', input);
    const urls: unknown = answer['QueueUrls'];
    const names = Array.isArray(urls) ? urls.map((url) => nameOf({ QueueUrl: url })) : [];
    return { ...answer, QueueUrls: names.map((name) => this.url(name)) };
  }

  async attributes(input: Fields): Promise<Fields> {
    const answer = await this.forward('GetQueueAttributes', input);
    const attributes: Record<string, unknown> = { ...recordOf(answer['Attributes']) };
    for (const name of ['QueueArn', 'RedrivePolicy', 'RedriveAllowPolicy'])
      if (name in attributes) attributes[name] = swapAccount(attributes[name], FAUXQS_ACCOUNT, this.#account);
    if (COUNTS.some((name) => name in attributes)) {
      const counts = await this.counts(nameOf(input));
      for (const [index, name] of COUNTS.entries()) if (name in attributes) attributes[name] = String(counts[index]);
    }
    return { Attributes: attributes };
  }

  /** The numbers of messages that are visible, in flight and delayed, in the order of COUNTS. fauxqs goes by the machine's clock, so these do. */
  async counts(queue: string): Promise<readonly [number, number, number]> {
    const { ready, inflight, delayed } = await this.#fauxqs.inspect(queue);
    const nowMs = Date.now();
    const notVisible = inflight.filter((held) => held.visibilityDeadline > nowMs).length;
    const waiting = delayed.filter((held) => held.delayUntil > nowMs).length;
    const all = ready.length + inflight.length + delayed.length;
    return [all - notVisible - waiting, notVisible, waiting];
  }

  /** The attributes of a queue as fauxqs has them. A policy has to name a queue that is there. */
  async toFauxqs(attributes: unknown): Promise<Fields> {
    const { RedrivePolicy, ...others } = recordOf(attributes);
    if (RedrivePolicy === undefined || RedrivePolicy === '') return recordOf(attributes);
    const { deadLetterTargetArn, maxReceiveCount } = parseRecord(RedrivePolicy);
    const target = String(deadLetterTargetArn);
    const times = Number(maxReceiveCount);
    if (!Number.isInteger(times) || times < 1 || times > 1000 || !target.startsWith(this.arn('')))
      throw invalid(`Value ${JSON.stringify(RedrivePolicy)} for parameter RedrivePolicy is invalid.`);
    const isThere = (await this.names()).includes(target.slice(this.arn('').length));
    if (!isThere)
      throw invalid(
        `Value ${JSON.stringify(RedrivePolicy)} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.`,
      );
    return { ...others, RedrivePolicy: swapAccount(RedrivePolicy, this.#account, FAUXQS_ACCOUNT) };
  }

  arn(name: string): string {
    return `arn:aws:sqs:${this.#region}:${this.#account}:${name}`;
  }

  async names(): Promise<readonly string[]> {
    const { QueueUrls } = await this.#fauxqs.call('ListQueues', {});
    return Array.isArray(QueueUrls) ? QueueUrls.map((url) => nameOf({ QueueUrl: url })) : [];
  }

  /** The queues whose dead letters go to this one. */
  async sourcesOf(name: string): Promise<readonly string[]> {
    const sources: string[] = [];
    await this.forward('GetQueueAttributes', { QueueUrl: this.url(name) });
    for (const other of await this.names()) {
      const { Attributes } = await this.attributes({
        QueueUrl: this.url(other),
        AttributeNames: ['RedrivePolicy'],
      });
      const { RedrivePolicy } = recordOf(Attributes);
      if (RedrivePolicy !== undefined && parseRecord(RedrivePolicy)['deadLetterTargetArn'] === this.arn(name))
        sources.push(other);
    }
    return sources;
  }
}
