import { Limit } from '../util/limit.ts';

/** Bytes that this process has read and its targets have not taken yet, over everything that it copies, publishes and extracts at once. */
export const PROCESS_AHEAD = new Limit(32 * 1024 * 1024);
