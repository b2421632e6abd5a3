import { isUnsupported } from './failure.ts';

/** What requests carry that an S3 other than Amazon's may refuse. */
export type Feature =
  /** `x-amz-checksum-*`. Without it: Content-MD5. */
  | 'checksums'
  /** `If-Match` and `If-None-Match` of writes. Without it: a look right before the write. */
  | 'conditions';

/** Which features requests carry. */
export type Takes = Readonly<Record<Feature, boolean>>;

/** The headers by which servers are distinguished. */
type Headers = Readonly<Record<string, string | undefined>>;

/** What the server of a bucket takes of S3, as far as its answers have shown it. What it refuses is left out from then on. */
export class Dialect {
  readonly #takes: Record<Feature, boolean>;
  readonly #onRefused: (feature: Feature) => void;
  #server: string | undefined;
  #countsParts = false;

  /** @param onRefused called once for each feature that the server refuses */
  constructor(takes: Takes, onRefused: (feature: Feature) => void) {
    this.#takes = { ...takes };
    this.#onRefused = onRefused;
  }

  /** What requests carry now. */
  get takes(): Takes {
    return this.#takes;
  }

  /** Whether answers have come, and none from Amazon. */
  get isForeign(): boolean {
    return this.#server !== undefined && this.#server !== 'AmazonS3';
  }

  /** Whether Complete has to list every part that is stored: https://github.com/ceph/ceph/blob/v19.2.0/src/rgw/driver/rados/rgw_sal_rados.cc */
  get countsParts(): boolean {
    return this.#countsParts;
  }

  /** Leaves a feature out from now on, without a call of `onRefused`. */
  leaveOut(feature: Feature): void {
    this.#takes[feature] = false;
  }

  /** Learns from the headers of an answer. */
  hear(headers: Headers): void {
    this.#server = headers['server'] ?? this.#server ?? '';
    // the names of Ceph's transactions: https://docs.ceph.com/en/latest/radosgw/s3/commons/
    if (this.#server.startsWith('Ceph') || /^tx[0-9a-f]{15,}-/u.test(headers['x-amz-request-id'] ?? ''))
      this.#countsParts = true;
  }

  /**
   * Sends a request that carries these features. When the server refuses it, it is sent again without one of them, then without all; what had
   * to go is left out from then on.
   */
  async send<T>(carried: readonly Feature[], send: (takes: Takes) => Promise<T>): Promise<T> {
    // another request may learn in the meantime what this one was refused for
    const taken = { ...this.#takes };
    try {
      return await send(taken);
    } catch (error) {
      if (!isUnsupported(error)) throw error;
      const droppable = carried.filter((feature) => taken[feature]);
      for (const dropped of [...droppable.map((feature) => [feature]), ...(droppable.length > 1 ? [droppable] : [])]) {
        const sent = await this.#sendWithout(dropped, send);
        if (sent !== undefined) return sent.answer;
      }
      throw error;
    }
  }

  /** Undefined when the server refuses the request without these features too. */
  async #sendWithout<T>(
    dropped: readonly Feature[],
    send: (takes: Takes) => Promise<T>,
  ): Promise<{ readonly answer: T } | undefined> {
    try {
      const without = Object.fromEntries(dropped.map((feature) => [feature, false]));
      const answer = await send({ ...this.#takes, ...without });
      for (const feature of dropped) this.#refuse(feature);
      return { answer };
    } catch (error) {
      if (!isUnsupported(error)) throw error;
      return undefined;
    }
  }

  #refuse(feature: Feature): void {
    if (!this.#takes[feature]) return;
    this.#takes[feature] = false;
    this.#onRefused(feature);
  }
}
