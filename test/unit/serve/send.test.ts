import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import type { Bytes } from '../../../worker/content/content.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { sendAnswer } from '../../../worker/serve/send.ts';
import { chunked, lent } from '../../support/chunks.ts';
import { workClock } from '../../support/clock.ts';
import { seededBytes } from '../../support/images.ts';

/** More than the socket buffers of both sides hold. */
const LARGE = Buffer.alloc(16 * 1024 * 1024 + 5, seededBytes('slow client', 99_991));
const STILL_TURNS = 200;

test.each([4096, 16_384, 262_144])(
  'sends a client that does not read for a while the bytes that chunks of %i had when they were lent',
  async (size) => {
    const asked = { chunks: 0 };
    const open = async function* (): Bytes {
      for await (const chunk of lent(chunked(LARGE, size))) {
        asked.chunks++;
        yield chunk;
      }
    };
    const server = createServer((_, response) => {
      const { signal } = new AbortController();
      const body = { size: LARGE.byteLength, open };
      void sendAnswer(
        response,
        { status: 200, headers: {}, body },
        { clock: workClock(), signal, isHead: false, onSent: () => undefined },
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(async () => {
      server.close();
      await once(server, 'close');
    });
    const get = request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false }).end();
    const [answer] = (await once(get, 'response')) as [IncomingMessage];
    for (let still = 0, before = -1; still < STILL_TURNS; still++) {
      await turn();
      if (asked.chunks !== before) still = 0;
      before = asked.chunks;
    }
    const hash = createHash('sha256');
    for await (const chunk of answer as AsyncIterable<Buffer>) hash.update(chunk);
    expect(`sha256:${hash.digest('hex')}`).toBe(digestOf(LARGE));
  },
);
