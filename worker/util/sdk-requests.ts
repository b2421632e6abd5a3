import { proxiedAgent, type Proxies } from './proxies.ts';

/**
 * How clients of the AWS SDK that make small calls send them: by the proxies of the environment, and with timeouts. Without these they wait
 * for ever on a connection that was lost without a word, as behind a NAT gateway that has forgotten it.
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
      // without a byte
      socketTimeout: 30_000,
      httpAgent: agent,
      httpsAgent: agent,
    },
  };
}
