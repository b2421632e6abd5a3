// What the container's health check runs: asks the worker of this container, and exits with 0 or 1. Loads nothing, since it is started
// every half minute.
const port = process.env['TRANSSHIP_HEALTH_PORT'] ?? '8080';
try {
  const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(5000) });
  process.stdout.write(await answer.text());
  process.exitCode = answer.ok ? 0 : 1;
} catch (error) {
  process.stdout.write(`no worker answers on port ${port}: ${error instanceof Error ? error.message : 'it failed'}\n`);
  process.exitCode = 1;
}
