// A whole ECR backed up into a store beside `regsync`, in turns: from nothing, and again without changes. ECR is the embedded one, in a
// process of its own. With `--shape` its API and its manifests are reached over slow connections; its blobs never are.
//   npm run bench:ecr -- [--repositories 40] [--tags 10] [--runs 5] [--shape 20MB/s,10ms]
import { ECRClient, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatTable } from '../../worker/commands/table.ts';
import { copy } from '../../worker/copy/copy.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { connect } from '../../worker/main/wire.ts';
import { createWorkspace, isInstalled, type Environment } from '../support/interop-process.ts';
import { stockImage, stockRepository } from '../support/stocked-registry.ts';
import { BenchLab } from './lab.ts';
import { countRequests } from './count-requests.ts';
import { measure, median, type Command, type Measured } from './measure.ts';
import { transshipCommand } from './tools.ts';

interface Tool {
  readonly name: string;
  readonly folder: string;
  readonly command: Command;
}

const { values } = parseArgs({
  options: {
    repositories: { type: 'string', default: '40' },
    tags: { type: 'string', default: '10' },
    runs: { type: 'string', default: '5' },
    shape: { type: 'string' },
  },
});
const names = Array.from({ length: Number(values.repositories) }, (_, number) => stockRepository(number));
const images = names.length * Number(values.tags);

await using work = await createWorkspace();
const lab = await BenchLab.create(work);
await using stack = await lab.s3();
const [host, address] = await push(stack.env);
const api = new URL(stack.env['AWS_ENDPOINT_URL_ECR'] ?? '').host;
await using fronts = new AsyncDisposableStack();
const front = async (server: string): Promise<string> =>
  values.shape === undefined ? server : fronts.use(await lab.shaped(server, values.shape)).host;
const [shapedAddress, shapedApi] = [await front(address), await front(api)];
const tools = [
  await transship(shapedAddress, shapedApi),
  ...(isInstalled('regsync') ? [await regsync(shapedAddress)] : []),
];

// a run that only warms the caches
await phase();
const [load = 0] = loadavg();
const firsts: (readonly Measured[])[] = [];
const seconds: (readonly Measured[])[] = [];
for (let run = 0; run < Number(values.runs); run++) {
  for (const { folder } of tools) {
    await rm(folder, { recursive: true });
    await mkdir(folder);
  }
  firsts.push(await phase());
  seconds.push(await phase());
}
process.stdout.write(
  `${images} images in ${names.length} repositories, ${cpus().length} cores, medians of ${values.runs} runs, load ${load.toFixed(0)} before\n\n`,
);
const rows = [...table('first', firsts), ...table('second, nothing changed', seconds)];
process.stdout.write(`${formatTable(['what', 'tool', '>wall s', '>CPU s', '>peak MiB'], rows)}\n\n`);
await using registryCounter = await countRequests(address);
await using apiCounter = await countRequests(api);
await measure((await transship(registryCounter.host, apiCounter.host)).command);
process.stdout.write(
  `requests of transship for a second backup: ${JSON.stringify({ registry: registryCounter.take(), api: apiCounter.take() })}\n`,
);

/** Pushes images of five layers, four of which are the same everywhere. Returns the name of ECR's registry, and its address. */
async function push(environment: Environment): Promise<readonly [string, string]> {
  const [endpoint = ''] = (environment['TRANSSHIP_REGISTRY_ENDPOINTS'] ?? '').split(',');
  const [name = '', url = ''] = endpoint.split('=');
  Object.assign(process.env, environment);
  await using backends = connect(readSettings({ ...environment, HOME: work.folder }), 'bench', {
    report: () => undefined,
  });
  const registry = backends.registry(name, 'target');
  for (const repository of names)
    for (let tag = 0; tag < Number(values.tags); tag++) {
      const about = { repositories: names.length, isIndex: false, isSigned: false };
      const image = stockImage({ ...about, seed: `${repository}/${tag}`, tag: `v${tag}` });
      await copy(image.content, registry.repository(repository), [image.root]);
    }
  return [name, new URL(url).host];
}

async function transship(registry: string, ecrApi: string): Promise<Tool> {
  const folder = await created('transship');
  const env = {
    ...lab.env,
    ...stack.env,
    AWS_ENDPOINT_URL_ECR: `http://${ecrApi}`,
    TRANSSHIP_REGISTRY_ENDPOINTS: `${host}=http://${registry}`,
  };
  return { name: 'transship', folder, command: { ...transshipCommand('backup', `${host}/*`, `store:${folder}`), env } };
}

async function regsync(registry: string): Promise<Tool> {
  const folder = await created('regsync');
  const [user = '', pass = ''] = await credentials();
  const sync = names.map((name) => ({
    source: `${host}/${name}`,
    target: `ocidir://${folder}/${name}`,
    type: 'repository',
    referrers: true,
  }));
  // under another name than that of the blobs' server, because Go sends credentials on to a redirect of the same name
  const hostname = registry.replace('127.0.0.1', 'localhost');
  const creds = [{ registry: host, hostname, tls: 'disabled', user, pass }];
  const config = join(work.folder, 'regsync.json');
  await writeFile(config, JSON.stringify({ version: 1, creds, defaults: { parallel: 4 }, sync }));
  return { name: 'regsync', folder, command: { command: 'regsync', args: ['-c', config, 'once'], env: lab.env } };
}

async function created(name: string): Promise<string> {
  const folder = join(work.folder, name);
  await mkdir(folder, { recursive: true });
  return folder;
}

/** A user and a password for ECR, as `aws ecr get-login-password` gives them. The environment has the credentials of AWS. */
async function credentials(): Promise<readonly string[]> {
  const { authorizationData } = await new ECRClient().send(new GetAuthorizationTokenCommand());
  const token = authorizationData?.[0]?.authorizationToken ?? '';
  return Buffer.from(token, 'base64').toString().split(/:(.*)/s);
}

/** Runs each tool once, in turns. */
async function phase(): Promise<readonly Measured[]> {
  const results: Measured[] = [];
  for (const { command } of tools) results.push(await measure(command));
  return results;
}

function table(what: string, runs: readonly (readonly Measured[])[]): readonly (readonly string[])[] {
  return tools.map(({ name }, at) => {
    const of = (key: keyof Measured): number => median(runs.map((results) => results[at]?.[key] ?? Number.NaN));
    return [what, name, of('wallSeconds').toFixed(2), of('cpuSeconds').toFixed(2), of('peakMib').toFixed(0)];
  });
}
