/** A limit ends what hangs. It does not measure: on a machine with other work a test takes many times as long as alone. */
export const LIMITS = { testTimeout: 300_000, hookTimeout: 300_000 } as const;
