import { start, type Environment } from './interop-process.ts';

/** An S3 of another project: https://github.com/getmoto/moto */
interface Moto extends AsyncDisposable {
  /** `http://host:port` */
  readonly endpoint: string;
}

/** Starts moto on a free port. It accepts any credentials, and keeps everything in memory. */
export async function startMoto(env: Environment): Promise<Moto> {
  const server = start('moto_server', ['-H', '127.0.0.1', '-p', '0'], { env });
  try {
    const [, endpoint = ''] = await server.stderrMatch(/Running on (http:\/\/127\.0\.0\.1:\d+)/);
    return { endpoint, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}
