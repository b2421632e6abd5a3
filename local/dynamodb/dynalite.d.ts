declare module 'dynalite' {
  import type { Server } from 'node:http';

  interface DynaliteOptions {
    /** Default: in memory. */
    readonly path?: string;
    /** How long tables stay in the states between, each 500 by default. */
    readonly createTableMs?: number;
    readonly deleteTableMs?: number;
    readonly updateTableMs?: number;
  }

  /** A server that does not listen yet. Closing it closes the store. */
  export default function dynalite(options?: DynaliteOptions): Server;
}
