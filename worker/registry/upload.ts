import type { Bytes } from '../content/content.ts';
import { watched } from '../content/watch.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { retry } from '../util/retry.ts';
import type { RepositoryContext } from './context.ts';
import { repositoryScope } from './scope.ts';
import { gathered } from '../content/gathered.ts';
import { MAX_RENEWALS } from './transport/authorization.ts';
import type { HttpAnswer, HttpRequest, StreamedBody } from './transport/layer.ts';

/** How long giving up a session may hold up what comes next. */
const ABANDON_MS = 5000;
/** ECR answers 201 where the specification has 202, Pulp 204: https://github.com/aws/containers-roadmap/issues/2831 */
const TAKEN = [200, 201, 202, 204];
const BYTES = { 'content-type': 'application/octet-stream' };

/**
 * Uploads of blobs to one repository: a session, then all bytes in one streamed request. Never a second try within a session: the offset that ECR
 * reports for one is wrong (https://github.com/aws/containers-roadmap/issues/2831), and it refuses a replay
 * (https://github.com/apple/containerization/issues/790). So every try is a new session, and the body from its start.
 */
export class Uploads {
  readonly #context: RepositoryContext;
  /** Sessions that refused mounts have left. */
  readonly #sessions = new Map<Digest, URL>();
  /** Whether this registry does not take a blob in one PUT: then it gets PATCH and an empty PUT. */
  #patches = false;

  constructor(context: RepositoryContext) {
    this.#context = context;
  }

  /**
   * Takes a blob over from another repository of this registry. False: a session was opened instead, which serves the next `put`. Where the
   * registry seems to mount nothing, it is asked once for each blob, which costs no request more than an upload, and not for every repository.
   */
  async mount(descriptor: Descriptor, from: string, options: Abortable): Promise<boolean> {
    if (this.#context.mounts.inVain && this.#sessions.has(descriptor.digest)) return false;
    const what = `mount blob ${shortDigest(descriptor.digest)} of ${from} in ${this.#context.host}/${this.#context.name}`;
    const query = new URLSearchParams({ mount: descriptor.digest, from });
    const answer = await this.#send(options, {
      what,
      operation: 'mount-blob',
      method: 'POST',
      url: `${this.#url}?${query.toString()}`,
      accept: [201, 202],
      scopes: [...this.#context.scopes, repositoryScope(from, 'pull')],
    });
    this.#context.mounts.observe(answer.status === 201);
    const before = this.#takeSession(descriptor.digest);
    if (before !== undefined) await this.#abandon(before);
    if (answer.status === 202) this.#sessions.set(descriptor.digest, this.#locationOf(what, answer));
    return answer.status === 201;
  }

  /** Stores a blob. What `open` throws comes out as it is and is not tried again here: its own end has done that. */
  async put(descriptor: Descriptor, open: () => Bytes, options: Abortable): Promise<void> {
    const { host, name, ecr, clock, report } = this.#context;
    const what = `push blob ${shortDigest(descriptor.digest)} to ${host}/${name}`;
    if (descriptor.size === 0 && ecr !== undefined) {
      // https://github.com/radius-project/radius/issues/7855
      throw new Failure(
        'UNSUPPORTED',
        `${what}: ECR takes no empty blobs; artifacts without content use the two bytes {}`,
      );
    }
    let broken: { readonly error: unknown } | undefined;
    const body: StreamedBody = {
      size: descriptor.size,
      open: () => {
        const failed = (error: unknown): unknown => {
          broken = { error };
          return error;
        };
        return gathered(watched(open(), { failed }), descriptor.size);
      },
    };
    const attempt = async (): Promise<void> => {
      for (let renewals = 0; ;) {
        const session = this.#takeSession(descriptor.digest) ?? (await this.#begin(what, options));
        try {
          return await this.#stream(what, descriptor, session, body, options);
        } catch (error) {
          await this.#abandon(session);
          if (broken !== undefined) return;
          if (isStale(error) && renewals < MAX_RENEWALS) renewals++;
          else if (isFailure(error, 'UNSUPPORTED', 'INVALID') && !this.#patches) this.#patches = true;
          else throw error;
        }
      }
    };
    await retry(what, attempt, { clock, report, signal: options.signal });
    if (broken !== undefined) throw broken.error;
  }

  /** Gives up the sessions that were not used. */
  async close(): Promise<void> {
    const left = [...this.#sessions.values()];
    this.#sessions.clear();
    await Promise.all(left.map(async (session) => this.#abandon(session)));
  }

  async #begin(what: string, options: Abortable): Promise<URL> {
    const answer = await this.#send(options, {
      what,
      operation: 'begin-upload',
      method: 'POST',
      url: this.#url,
      accept: TAKEN,
      scopes: this.#context.scopes,
    });
    return this.#locationOf(what, answer);
  }

  async #stream(
    what: string,
    descriptor: Descriptor,
    session: URL,
    body: StreamedBody,
    options: Abortable,
  ): Promise<void> {
    const common = { what, operation: 'upload-blob', accept: TAKEN, scopes: this.#context.scopes } as const;
    let last: HttpAnswer;
    try {
      if (this.#patches) {
        const taken = await this.#send(options, { ...common, method: 'PATCH', url: session, headers: BYTES, body });
        const next = taken.header('location') === undefined ? session : this.#locationOf(what, taken);
        last = await this.#send(options, {
          ...common,
          method: 'PUT',
          url: closing(next, descriptor.digest),
          headers: BYTES,
        });
      } else {
        last = await this.#send(options, {
          ...common,
          method: 'PUT',
          url: closing(session, descriptor.digest),
          headers: BYTES,
          body,
        });
      }
    } catch (error) {
      // the repository was there a moment ago: it is the session that is gone
      if (isFailure(error, 'NOT_FOUND')) throw new Failure('UNAVAILABLE', error.message, { context: error.context });
      throw error;
    }
    const said = last.header('docker-content-digest');
    if (said?.startsWith(descriptor.digest.slice(0, 7)) === true && said !== descriptor.digest)
      throw new Failure('CORRUPT', `${what}: the registry took it as ${said}`);
  }

  /** Cancels a session that is not needed any more. Best effort; ECR has no such call. */
  async #abandon(session: URL): Promise<void> {
    if (this.#context.ecr !== undefined) return;
    const what = `give up an upload to ${this.#context.host}/${this.#context.name}`;
    const operation = 'upload-blob';
    const request = {
      what,
      operation,
      method: 'DELETE',
      url: session,
      accept: TAKEN,
      scopes: this.#context.scopes,
    } as const;
    try {
      await this.#send({}, { ...request, answerTimeoutMs: ABANDON_MS });
    } catch (error) {
      if (!isFailure(error)) throw error;
    }
  }

  /** One try: the session is the unit of retry. */
  async #send(options: Abortable, request: HttpRequest): Promise<HttpAnswer> {
    return this.#context.transport.send({ ...request, attempts: 1 }, options);
  }

  #takeSession(digest: Digest): URL | undefined {
    const session = this.#sessions.get(digest);
    this.#sessions.delete(digest);
    return session;
  }

  /** Relative or whole, with a query that must stay as it is, and new in every answer. */
  #locationOf(what: string, answer: HttpAnswer): URL {
    const location = answer.header('location');
    if (location === undefined)
      throw new Failure('UNSUPPORTED', `${what}: the registry did not say where to upload to`);
    return this.#context.transport.lead(what, location, answer.url);
  }

  get #url(): string {
    return `/v2/${this.#context.name}/blobs/uploads/`;
  }
}

/** Whether the credentials were renewed because of this refusal: what was streamed has to be sent anew. */
function isStale(error: unknown): boolean {
  return isFailure(error) && error.context['renewed'] === true;
}

function closing(session: URL, digest: Digest): URL {
  const url = new URL(session);
  // as text: what a registry signed must not be written in another way
  url.search = `${url.search}${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
  return url;
}
