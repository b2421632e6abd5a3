import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { Transport } from '../../../../worker/registry/transport/transport.ts';
import { fakeClock, manualClock, type ManualClock } from '../../../support/clock.ts';
import { eventually } from '../../../support/eventually.ts';
import { READ } from '../../../support/fake-layer.ts';

const ONCE = { ...READ, attempts: 1 };

interface Dripping {
  readonly transport: Transport;
  readonly clock: ManualClock;
  /** The connection that is being answered. */
  readonly socket: Promise<Socket>;
}

/** A server that answers with `start`, and leaves the rest to the test. */
async function dripping(start: string): Promise<Dripping> {
  const answering = Promise.withResolvers<Socket>();
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.write(start, () => answering.resolve(socket)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const clock = manualClock();
  const transport = new Transport({
    host: 'registry.example',
    baseUrl: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    authorize: () => ({ header: async () => undefined, refused: async () => false, hint: () => undefined }),
    concurrency: 4,
    userAgent: 'transship/test',
    clock: fakeClock(),
    timeoutClock: clock,
  });
  onTestFinished(async () => transport.close());
  return { transport, clock, socket: answering.promise };
}

test('headers that drip for more than a minute are given up', async () => {
  const { transport, clock, socket } = await dripping('HTTP/1.1 200 OK\r\nx-one: 1\r\n');
  const opened = transport.open(ONCE);
  const failed = expect(opened).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'read it: the answer did not begin within a minute',
  });
  (await socket).write('x-two: 2\r\n');
  await clock.advance(60_000);
  await failed;
});

test('a document that drips for more than a minute is given up', async () => {
  const { transport, clock, socket } = await dripping('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1');
  const sent = transport.send(ONCE);
  const failed = expect(sent).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'read it: the answer was not whole within a minute',
  });
  (await socket).write('2');
  await clock.advance(60_000);
  await failed;
});

test('a blob whose headers arrived in time may take longer', async () => {
  const { transport, clock, socket } = await dripping('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1');
  const { body } = await transport.open(ONCE);
  expect(clock.sleeping).toBe(0);
  (await socket).write('2');
  const chunks = await Array.fromAsync(body);
  expect(Buffer.concat(chunks).toString()).toBe('12');
});

test('a document that arrived in time leaves no timer', async () => {
  const { transport, clock } = await dripping('HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1');
  expect((await transport.send(ONCE)).bytes.toString()).toBe('1');
  await eventually(() => expect(clock.sleeping).toBe(0));
});
