/** How long a process may take to end after its first SIGTERM or SIGINT. After that it ends without waiting for anything. */
export const STOP_SECONDS = 20;
