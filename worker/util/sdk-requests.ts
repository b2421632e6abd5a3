import { proxiedAgent, type Proxies } from './proxies.ts';

/**
 * The options of AWS SDK clients that make small calls: the proxies, and timeouts. Without timeouts a call waits permanently on a connection that
 * was lost silently, as behind a NAT gateway that has forgotten it.
 */
export function sdkRequests(proxies: Proxies | undefined): {
  readonly requestHandler: {
    readonly connectionTimeout: number;
    readonly socketTimeout: number;
    readonly httpAgent: ReturnType<typeof proxiedAgent>;
    readonly httpsAgent: ReturnType<typeof proxiedAgent>;
  };
} {
  const agent = proxiedAgent(proxies);
  return {
    requestHandler: {
      connectionTimeout: 5000,
      // without receiving a byte
      socketTimeout: 30_000,
      httpAgent: agent,
      httpsAgent: agent,
    },
  };
}
