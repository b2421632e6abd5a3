/** How long a process may take to end after its first SIGTERM or SIGINT. After that it ends without waiting for anything. */
export const STOP_SECONDS = 20;

/** How long work that must not be left half done may go on after the process is stopped, as `withGrace` gives it: half of what the process has. */
export const GRACE_MS = (STOP_SECONDS * 1000) / 2;
