// A TCP proxy that makes each connection slow: so many bytes a second and so much delay, each way. Several connections together are that
// many times as fast, as connections to S3 are.
//   node test/bench/shape.ts --shape 20MB/s,10ms HOST:PORT …     prints the address of each proxy as a JSON array
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { Transform } from 'node:stream';
import { parseArgs } from 'node:util';

interface Shape {
  readonly bytesPerSecond: number;
  readonly delayMs: number;
}

/** The bytes that a connection may hold between its ends. A larger buffer would hide the slowness from the sender. */
const HELD_BYTES = 256 * 1024;
const CHUNK_BYTES = 16 * 1024;
/** How late a timer may be. */
const LATE_MS = 50;

/** `20MB/s,10ms` */
function parseShape(text: string): Shape {
  const [, rate, ms] = /^(\d+)MB\/s,(\d+)ms$/.exec(text) ?? [];
  if (rate === undefined || ms === undefined) throw new Error(`--shape is like 20MB/s,10ms, not ${text}`);
  return { bytesPerSecond: Number(rate) * 1e6, delayMs: Number(ms) };
}

/** Forwards bytes at the rate of the shape, each byte after its delay. */
function shaped({ bytesPerSecond, delayMs }: Shape): Transform {
  let freeAtMs = 0;
  // timers may fire in another order than they were set in
  const onTheirWay: Buffer[] = [];
  let atEnd: (() => void) | undefined;
  return new Transform({
    writableHighWaterMark: HELD_BYTES,
    readableHighWaterMark: HELD_BYTES,
    transform(chunk: Buffer, _, done) {
      const nowMs = performance.now();
      // compensates for late timers
      freeAtMs = Math.max(freeAtMs, nowMs - LATE_MS) + (chunk.byteLength / bytesPerSecond) * 1000;
      const leavesInMs = Math.max(0, freeAtMs - nowMs);
      onTheirWay.push(chunk);
      setTimeout(() => {
        this.push(onTheirWay.shift());
        if (onTheirWay.length === 0) atEnd?.();
      }, leavesInMs + delayMs);
      // the next byte may leave when this one has left, which is before it arrives
      setTimeout(done, leavesInMs);
    },
    flush(done) {
      atEnd = done;
      if (onTheirWay.length === 0) done();
    },
  });
}

function join(client: Socket, to: { readonly host: string; readonly port: number }, shape: Shape): void {
  const server = connect({ ...to, noDelay: true, allowHalfOpen: true });
  client.setNoDelay(true);
  client.on('error', () => server.destroy()).on('close', () => server.destroy());
  // bytes that it sent before it closed are still on their way
  server.on('error', () => client.destroy());
  client.pipe(shaped(shape)).pipe(server);
  server.pipe(shaped(shape)).pipe(client);
}

async function startProxy(target: string, shape: Shape): Promise<string> {
  const { hostname: host, port } = new URL(`http://${target}`);
  const server = createServer({ highWaterMark: CHUNK_BYTES, allowHalfOpen: true }, (client) =>
    join(client, { host, port: Number(port) }, shape),
  );
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const { values, positionals } = parseArgs({ options: { shape: { type: 'string' } }, allowPositionals: true });
const shape = parseShape(values.shape ?? '20MB/s,10ms');
const proxies = await Promise.all(positionals.map(async (target) => startProxy(target, shape)));
process.stdout.write(`${JSON.stringify(proxies)}\n`);
