import { createServer, request } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { listen, stopListening, type Address } from '../http/listen.ts';

/**
 * ECR's JSON API of several regions at one address, since the SDK takes one: the region that a request was signed for decides, as the
 * region's host name does at AWS. `regions` has the URL of each.
 */
export async function startEcrRegions(
  regions: ReadonlyMap<string, string>,
  options: { readonly port?: number | undefined } = {},
): Promise<Address & AsyncDisposable> {
  const server = createServer((from, to) => {
    const region = /Credential=[^/]+\/[0-9]{8}\/([a-z0-9-]+)\/ecr\//.exec(from.headers.authorization ?? '')?.[1];
    const url = regions.get(region ?? '');
    if (url === undefined) {
      to.writeHead(501, { 'content-type': 'text/plain' }).end(`there is no ECR in ${region ?? 'no region'} here\n`);
      return;
    }
    const there = request(new URL(from.url ?? '/', url), { method: from.method, headers: from.headers }, (answer) => {
      to.writeHead(answer.statusCode ?? 502, answer.headers);
      pipeline(answer, to).catch(() => to.destroy());
    });
    pipeline(from, there).catch(() => to.destroy());
  });
  const address = await listen(server, { name: "ECR's API", port: options.port });
  return { ...address, [Symbol.asyncDispose]: async () => stopListening(server) };
}
