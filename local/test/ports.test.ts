import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import { isFailure } from '../../worker/util/failure.ts';
import { listen, stopListening } from '../http/listen.ts';
import { MAX_PORT, SERVERS, startStack, type Stack } from '../stack.ts';

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-ports-'));
  onTestFinished(async () => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Below the ports that systems give to clients and to servers without a fixed port, so that no other test takes one in between. */
const RANGE = { first: 10_000, count: 5000 };
let tried = 0;

/** Another port for each call; those of two processes are far from each other. */
function nextPort(): number {
  return RANGE.first + ((process.pid * 61 + tried++ * SERVERS.length) % RANGE.count);
}

/** Runs `use` with the first of nine ports in a row; tries other ports if one of these is taken. */
async function withPorts(use: (port: number) => Promise<void>): Promise<void> {
  for (let attempts = 1; ; attempts++) {
    const port = nextPort();
    const free = await Promise.all(SERVERS.map(async (_, index) => !(await isTaken(port + index))));
    if (free.every(Boolean)) return use(port);
    if (attempts === 100) throw new Error('no nine ports in a row are free');
  }
}

async function isTaken(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

describe('a stack on fixed ports', () => {
  test('prints an environment that names them, in the order that is documented', async () => {
    await withPorts(async (port) => {
      await using stack = await startStack({ folder: await newFolder(), port });
      const { environment } = stack;
      const urls = [
        environment['AWS_ENDPOINT_URL_S3'],
        environment['AWS_ENDPOINT_URL_SQS'],
        environment['AWS_ENDPOINT_URL_DYNAMODB'],
        ...(environment['TRANSSHIP_REGISTRY_ENDPOINTS'] ?? '').split(',').map((pair) => pair.replace(/^.*=/, '')),
        stack.registry.url,
        environment['AWS_ENDPOINT_URL_ECR'],
      ];
      assert.deepEqual(
        urls,
        urls.map((_, index) => `http://127.0.0.1:${port + index}`),
      );
      assert.equal(new URL(environment['TRANSSHIP_QUEUE_URL'] ?? '').port, String(port + 1));
      const taken = await Promise.all(SERVERS.map(async (_, index) => isTaken(port + index)));
      assert.deepEqual(
        taken,
        Array.from(SERVERS, () => true),
      );
    });
  });

  test.each(SERVERS)('refuses to start where the port of %s is taken, and leaves nothing running', async (name) => {
    await withPorts(async (port) => {
      const taken = port + SERVERS.indexOf(name);
      const other = createServer();
      await listen(other, { name: 'another program', port: taken });
      const folder = await newFolder();
      await assert.rejects(startStack({ folder, port }), (error) => {
        assert.ok(isFailure(error, 'INVALID'));
        assert.match(
          error.message,
          new RegExp(`^start \\S[^:]* on port ${taken} of 127\\.0\\.0\\.1: another program listens there: choose `),
        );
        return true;
      });
      await stopListening(other);
      const left = await Promise.all(SERVERS.map(async (_, index) => isTaken(port + index)));
      assert.deepEqual(
        left,
        Array.from(SERVERS, () => false),
      );
      const again: Stack = await startStack({ folder, port });
      await again[Symbol.asyncDispose]();
    });
  });

  test.each([0, -1, 1.5, Number.NaN, MAX_PORT + 1])('refuses to start on port %d', async (port) => {
    await assert.rejects(startStack({ folder: await newFolder(), port }), {
      code: 'INVALID',
      message: /from 1 to 65527, since it takes 9 ports/,
    });
  });
});

test('the address of a server on IPv6 has brackets', async () => {
  const server = createServer();
  try {
    assert.match((await listen(server, { name: 'a server', host: '::1' })).url, /^http:\/\/\[::1\]:[0-9]+$/);
  } finally {
    await stopListening(server);
  }
});
