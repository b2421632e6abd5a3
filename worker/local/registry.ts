import { systemClock, type Clock } from '../util/clock.ts';
import { RegistryAuth } from './registry-auth.ts';
import { Distribution, ociRules } from './registry-distribution.ts';
import { refuse, type Answer, type Exchange, type ServedRequest } from './registry-exchange.ts';
import { RegistryFaults } from './registry-faults.ts';
import { parseRoute, type RequestKind, type Route } from './registry-route.ts';
import { listen, RequestLog, type Listener } from './registry-server.ts';
import { openRegistryStore } from './registry-store.ts';

export type RegistryServerOptions = OciServerOptions;

interface ServerOptions {
  /** Where everything is kept; made when it is not there. One server at a time. */
  readonly folder: string;
  /** On 127.0.0.1. Default 0: one that is free. */
  readonly port?: number;
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
  /** Of bearer tokens. Default 300. */
  readonly tokenLifetimeSeconds?: number;
  /** Refused with 403: methods (`DELETE`) or kinds of request (`manifest-put`). */
  readonly deny?: readonly (RequestKind | 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE')[];
  /** False answers 404 to the referrers API, as registries before 1.1 do. Default true. */
  readonly referrersApi?: boolean;
  /** The most that a list holds; a Link leads to the rest. Default 1000. */
  readonly pageSize?: number;
}

/** A registry that runs in this process, until it is closed. */
export interface LocalRegistry extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  /** `127.0.0.1:port`: the registry of a reference. */
  readonly host: string;
  readonly faults: RegistryFaults;
  /** The newest requests, 10,000 at least, in the order they came. */
  readonly requests: readonly ServedRequest[];
  /** Makes every token that was given so far worthless. */
  expireTokens(): void;
  /** Ends open connections and everything under way. What was acknowledged stays in the folder. */
  close(): Promise<void>;
}

/** Starts a registry on 127.0.0.1. */
export async function startRegistry(o: RegistryServerOptions): Promise<LocalRegistry> {
  const { clock = systemClock, pageSize = 1000, referrersApi = true } = o;
  const store = await openRegistryStore(o.folder);
  const faults = new RegistryFaults();
  const log = new RequestLog();
  const auth = new RegistryAuth(
    {
      auth: o.auth ?? 'none',
      users: o.users ?? {},
      anonymousPull: o.anonymousPull ?? false,
      tokenLifetimeSeconds: o.tokenLifetimeSeconds ?? 300,
      url: () => front.url,
    },
    clock,
  );
  const distribution = new Distribution(store, ociRules(store, clock, { referrersApi, pageSize }), clock);
  const deny = new Set<string>(o.deny);
  const expireTokens = (): void => auth.expireTokens();

  const answer = async (x: Exchange, route: Route): Promise<Answer> => {
    if (route.kind === 'token') return auth.token(x);
    auth.check(x, route);
    if (deny.has(x.method) || deny.has(route.kind)) {
      throw refuse(403, 'DENIED', 'requested access to the resource is denied');
    }
    return distribution.answer(x, route);
  };
  const front: Listener = await listen({
    port: o.port ?? 0,
    route: parseRoute,
    answer,
    // what docker's own clients know a registry by
    headers: { 'docker-distribution-api-version': 'registry/2.0' },
    faults,
    expireTokens,
    log,
    clock,
  });
  const close = async (): Promise<void> => {
    await front.close();
    await store.close();
  };
  return {
    url: front.url,
    host: front.host,
    faults,
    get requests() {
      return log.entries;
    },
    expireTokens,
    close,
    [Symbol.asyncDispose]: close,
  };
}
