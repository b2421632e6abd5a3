import { systemClock, type Clock } from '../../worker/util/clock.ts';
import { apiTrouble, EcrApi, parseApiRoute } from '../ecr/api.ts';
import { bucketTrouble, LayerBucket, parseLayerRoute } from '../ecr/layers.ts';
import { checkEcrAccess, ecrRules } from '../ecr/rules.ts';
import { pushEvent } from '../ecr/events.ts';
import { Ecr, type EcrOptions } from '../ecr/ecr.ts';
import { Faults, type RegistryFault } from '../faults.ts';
import { ociRules, type Deletes } from './oci-rules.ts';
import { RegistryAuth } from './auth.ts';
import { Distribution } from './distribution.ts';
import { refuse, type Answer, type Exchange, type Refusal, type ServedRequest } from './exchange.ts';
import { parseRoute, type RegistryOperation, type RequestKind, type Route } from './route.ts';
import { openListener, RequestLog, type Listener } from './server.ts';
import { openRegistryStore, type RegistryStore } from './store.ts';

export type RegistryServerOptions = OciServerOptions | EcrServerOptions;

interface ServerOptions {
  /** Where everything is kept; made when it is not there. One server at a time. */
  readonly folder: string;
  /** On 127.0.0.1. Default 0: one that is free. */
  readonly port?: number | undefined;
  readonly clock?: Clock;
}

/** A registry that follows OCI distribution 1.1.1 to the letter. */
export interface OciServerOptions extends ServerOptions {
  readonly mode: 'oci';
  /** Default `none`. */
  readonly auth?: 'none' | 'basic' | 'bearer';
  /** Passwords by name, for `basic` and `bearer`. */
  readonly users?: Readonly<Record<string, string>>;
  /** With `bearer`: whether a token to pull is given without credentials. Default false. */
  readonly anonymousPull?: boolean;
  /** How long bearer tokens are valid. Default 300. */
  readonly tokenLifetimeSeconds?: number;
  /** Refused with 403: methods (`DELETE`) or kinds of request (`manifest-put`). */
  readonly deny?: readonly (RequestKind | 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE')[];
  /** False answers 404 to the referrers API, as registries before 1.1 do. Default true. */
  readonly referrersApi?: boolean;
  /** What can be deleted. Default `tags`: everything. */
  readonly deletes?: Deletes;
  /** The most that a list holds; a Link leads to the rest. Default 1000. */
  readonly pageSize?: number;
}

/** Amazon ECR of one account and region: its JSON API and its `/v2/`, with the ways in which that differs from the specification. */
export interface EcrServerOptions extends ServerOptions, EcrOptions {
  readonly mode: 'ecr';
  /** The port of the bucket that layers are fetched from, on 127.0.0.1. Default 0: a free one. */
  readonly layersPort?: number | undefined;
  /** Gets the event of EventBridge for each push, as JSON, when the push is done. Default: no events. */
  readonly onPush?: (event: string) => void;
}

/** A registry that runs in this process, until it is closed. */
export interface LocalRegistry extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  /** `127.0.0.1:port`. */
  readonly host: string;
  /** The name that references have for it: of ECR `111111111111.dkr.ecr.us-east-1.amazonaws.com`, which really answers at `url`; else `host`. */
  readonly registryHost: string;
  readonly faults: Faults<RegistryOperation, RegistryFault>;
  /** The newest requests, 10,000 at least, in the order they came. */
  readonly requests: readonly ServedRequest[];
  /** Makes every token that was given so far worthless. */
  expireTokens(): void;
  /** Ends open connections and everything under way. What was acknowledged stays in the folder. */
  close(): Promise<void>;
}

/** Starts a registry on 127.0.0.1. */
export async function startRegistry(options: RegistryServerOptions): Promise<LocalRegistry> {
  const store = await openRegistryStore(options.folder);
  await using starting = new AsyncDisposableStack();
  starting.defer(() => store.close());
  const faults = new Faults<RegistryOperation, RegistryFault>();
  const log = new RequestLog();
  const shared: Shared = { store, faults, log, clock: options.clock ?? systemClock, port: options.port };
  const { front, registryHost, expireTokens } =
    options.mode === 'ecr' ? await startEcr(options, shared, starting) : await startOci(options, shared, starting);
  const running = starting.move();
  const close = (): Promise<void> => running.disposeAsync();
  return {
    url: front.url,
    host: front.host,
    registryHost: registryHost ?? front.host,
    faults,
    get requests() {
      return log.entries;
    },
    expireTokens,
    close,
    [Symbol.asyncDispose]: close,
  };
}

interface Shared {
  readonly store: RegistryStore;
  readonly faults: Faults<RegistryOperation, RegistryFault>;
  readonly log: RequestLog;
  readonly clock: Clock;
  readonly port: number | undefined;
}

interface Started {
  readonly front: Listener;
  readonly registryHost?: string;
  readonly expireTokens: () => void;
}

/** What docker's own clients know a registry by. */
const HEADERS = { 'docker-distribution-api-version': 'registry/2.0' };

async function startOci(options: OciServerOptions, shared: Shared, starting: AsyncDisposableStack): Promise<Started> {
  const { store, clock } = shared;
  const { pageSize = 1000, referrersApi = true, deletes = 'tags' } = options;
  const auth = new RegistryAuth(
    {
      auth: options.auth ?? 'none',
      users: options.users ?? {},
      anonymousPull: options.anonymousPull ?? false,
      tokenLifetimeSeconds: options.tokenLifetimeSeconds ?? 300,
      url: () => front.url,
    },
    clock,
  );
  const distribution = new Distribution(store, ociRules(store, clock, { referrersApi, pageSize, deletes }), clock);
  const deny = new Set<string>(options.deny);
  const expireTokens = (): void => auth.expireTokens();
  const front: Listener = await openListener({
    ...shared,
    name: 'the OCI registry',
    route: (request, url) => parseRoute(request.method ?? '', url),
    answer: async (exchange, route) => {
      if (route.kind === 'token') return auth.token(exchange);
      auth.check(exchange, route);
      if (deny.has(exchange.method) || deny.has(route.kind)) {
        throw refuse(403, 'DENIED', 'requested access to the resource is denied');
      }
      return distribution.answer(exchange, route);
    },
    trouble: (_, status, code) => registryTrouble(status, code),
    headers: HEADERS,
    expireTokens,
  });
  starting.defer(() => front.close());
  return { front, expireTokens };
}

async function startEcr(options: EcrServerOptions, shared: Shared, starting: AsyncDisposableStack): Promise<Started> {
  const { store, clock } = shared;
  const ecr = new Ecr(store, clock, options);
  const bucket = new LayerBucket(store, clock, options.region, options.layerUrlSeconds);
  const expireTokens = (): void => ecr.tokens.expireAll();
  const layers = await openListener({
    ...shared,
    name: `the layers of ECR ${ecr.host}`,
    port: options.layersPort,
    route: (request, url) => parseLayerRoute(request.method ?? '', url),
    answer: async (exchange, route) => bucket.answer(exchange, route),
    trouble: (_, status, code) => bucketTrouble(status, code),
    headers: { server: 'AmazonS3' },
    expireTokens,
  });
  starting.defer(() => layers.close());
  const rules = ecrRules(ecr, {
    origin: () => front.url,
    presign: (digest) => bucket.presign(layers.url, digest),
  });
  const distribution = new Distribution(store, rules, clock);
  const api = new EcrApi(ecr);
  const answer = async (exchange: Exchange, route: Route): Promise<Answer> => {
    if (route.kind === 'api') return api.answer(exchange, route.operation);
    checkEcrAccess(ecr, exchange, route);
    const answered = await distribution.answer(exchange, route);
    const event = pushEvent(exchange, route, answered, options, clock.now());
    if (event !== undefined) options.onPush?.(event);
    return answered;
  };
  const front: Listener = await openListener({
    ...shared,
    name: `ECR ${ecr.host}`,
    route: (request, url) => {
      const target = request.headers['x-amz-target'];
      return parseApiRoute(request.method ?? '', url, String(target ?? '')) ?? parseRoute(request.method ?? '', url);
    },
    answer,
    trouble: (route, status, code) => (route.kind === 'api' ? apiTrouble(status, code) : registryTrouble(status, code)),
    headers: HEADERS,
    expireTokens,
  });
  starting.defer(() => front.close());
  return { front, registryHost: ecr.host, expireTokens };
}

/** The answers of a registry when it is too busy, or broken. */
function registryTrouble(status: number, code: string | undefined): Refusal {
  return status === 429
    ? refuse(status, code ?? 'TOOMANYREQUESTS', 'Rate exceeded')
    : refuse(status, code ?? 'UNAVAILABLE', 'try later');
}
