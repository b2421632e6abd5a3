import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parseManifest, MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { BUCKET } from '../support/local-s3.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { CHECKOUT, run, start, transship } from '../support/interop-process.ts';
import { podmanEnvironment } from '../support/interop-podman.ts';

const lab = await openLab();
const closing = new AsyncDisposableStack();
afterAll(async () => {
  await closing.disposeAsync();
  await lab[Symbol.asyncDispose]();
});
const document = await readFile(join(CHECKOUT, 'docs', 'serve.md'), 'utf8');
const blocks = (language: string): readonly string[] =>
  [...document.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, block = '']) => block);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** The commands `transship` and `docker`: podman stands in for docker, which needs a daemon. */
async function commands(folder: string): Promise<void> {
  await mkdir(folder);
  const [node, args] = transship([]);
  await writeFile(join(folder, 'transship'), `#!/bin/sh\nexec ${[node, ...args].join(' ')} "$@"\n`);
  await writeFile(join(folder, 'docker'), '#!/bin/sh\nshift\nexec podman pull --tls-verify=false "$@"\n');
  for (const name of ['transship', 'docker']) await chmod(join(folder, name), 0o755);
}

test('every command of docs/serve.md works as documented', async () => {
  const place = `store:s3://${BUCKET}/prod/`;
  await run(...transship(['backup', `${lab.registry.host}/team/*`, place]), lab.o);
  const bin = join(lab.folder, 'bin');
  await commands(bin);
  const podman = await podmanEnvironment(lab);
  const o = { env: { ...podman, PATH: `${bin}:${podman['PATH'] ?? ''}` }, cwd: lab.folder };
  const ports = new Map<string, number>();
  for (const port of ['5000', '5001', '5002', '5443']) ports.set(port, await freePort());
  const asHere = (line: string): string => {
    const isDefault = line.startsWith('transship serve') && !line.includes('--listen');
    return (isDefault ? `${line} --listen 127.0.0.1:5000` : line)
      .replaceAll('store:s3://my-backups/prod/', place)
      .replace('--as-of 2d', '--as-of 0s')
      .replace(/(?<=(?:127\.0\.0\.1|0\.0\.0\.0):)\d{4}/g, (port) => String(ports.get(port)));
  };
  for (const line of blocks('sh').join('').trimEnd().split('\n').map(asHere)) {
    if (!line.startsWith('transship serve')) await run('bash', ['-e', '-c', line], o);
    else {
      const serving = closing.use(start('bash', ['-c', `exec ${line}`], o));
      await serving.stderrMatch(/pull from \S+team\/app:TAG/);
    }
  }
  expect((await run('podman', ['images', '--noheading'], o)).toString()).toContain('team/app');

  const [registries = ''] = blocks('toml');
  const conf = join(lab.folder, 'backup.conf');
  await writeFile(conf, asHere(registries));
  const mirrored = ['--registries-conf', conf, 'inspect', '--raw', `docker://registry.example.com/${APP}:v1`];
  const index = parseManifest(await run('skopeo', mirrored, o), MEDIA_TYPE.ociIndex);
  expect(index).toMatchObject({ kind: 'index' });
});
