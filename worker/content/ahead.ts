import { Limit } from '../util/limit.ts';

/** Bytes that this process reads ahead of what its targets take: of everything that it copies, publishes and extracts at once. */
export const PROCESS_AHEAD = new Limit(32 * 1024 * 1024);
