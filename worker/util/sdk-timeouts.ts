/**
 * For clients of the AWS SDK that make small calls: without it they wait for ever for an answer on a connection that nobody tells them is
 * dead, as behind a NAT gateway that has forgotten it.
 */
export const SDK_TIMEOUTS = {
  requestHandler: {
    connectionTimeout: 5000,
    /** Without a byte. */
    socketTimeout: 30_000,
  },
} as const;
