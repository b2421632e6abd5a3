import { isExpiry } from './aws-errors.ts';

/** A middleware of the AWS SDK: it wraps every request of a client. */
type Middleware = <Request, Answer>(
  next: (request: Request) => Promise<Answer>,
) => (request: Request) => Promise<Answer>;

/** The part of a client of the AWS SDK that is needed here. */
interface Client {
  readonly config: { readonly credentials: (options: { readonly forceRefresh: boolean }) => Promise<unknown> };
  readonly middlewareStack: {
    add(
      middleware: Middleware,
      options: { readonly step: 'initialize'; readonly name: string; readonly override: boolean },
    ): void;
  };
}

/**
 * Makes the client get new credentials from its provider when AWS answers that they have expired, and send the request once more. On its own
 * the SDK keeps credentials until they are due to expire, and those without a time permanently. Idempotent. Returns the client.
 */
export function renewingCredentials<C extends Client>(client: C): C {
  client.middlewareStack.add(
    (next) => async (request) => {
      try {
        return await next(request);
      } catch (error) {
        if (!isExpiry(error)) throw error;
        await client.config.credentials({ forceRefresh: true });
        return next(request);
      }
    },
    { step: 'initialize', name: 'renewExpiredCredentials', override: true },
  );
  return client;
}
