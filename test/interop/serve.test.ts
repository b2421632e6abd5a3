// Other tools pull from `transship serve`. Tools that are not in Debian are skipped where they are missing: oras, crane, regctl, and the
// conformance tests of OCI (`go install github.com/opencontainers/distribution-spec/conformance@latest`).
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseManifest, MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { BUCKET } from '../support/local-s3.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { attempt, isInstalled, run, skopeo, start, transship } from '../support/interop-process.ts';
import { podmanEnvironment } from '../support/interop-podman.ts';
import { GREETING, rawManifest } from '../support/interop-image.ts';

describe.each(['archives', 'a store'])('serve of %s', async (kind) => {
  const place = kind === 'archives' ? `s3://${BUCKET}/served/` : `store:s3://${BUCKET}/stored/`;
  const lab = await openLab();
  const closing = new AsyncDisposableStack();
  afterAll(async () => {
    await closing.disposeAsync();
    await lab[Symbol.asyncDispose]();
  });
  const serve = async (...args: readonly string[]): Promise<string> => {
    const serving = closing.use(start(...transship(['serve', ...args, '--listen', '127.0.0.1:0']), lab.o));
    const [, host = ''] = await serving.stderrMatch(/pull from ([^/]+)\//);
    return host;
  };
  await run(...transship(['backup', `${lab.registry.host}/${APP}`, place]), lab.o);
  const host = await serve(place);
  const name = `${host}/${APP}:v1`;

  test('serves skopeo every platform, digests unchanged', async () => {
    const layout = join(lab.folder, 'pulled');
    await skopeo(['copy', '--all', `docker://${name}`, `oci:${layout}:v1`], lab.o);
    const index = JSON.parse((await readFile(join(layout, 'index.json'))).toString()) as {
      readonly manifests: readonly { readonly digest: string }[];
    };
    expect(index.manifests.map(({ digest }) => digest)).toEqual([lab.image.root.digest]);
    expect((await skopeo(['list-tags', `docker://${host}/${APP}`], lab.o)).toString()).toContain('"v1"');
  });

  test('serves podman an image, which runs', async () => {
    const o = { env: await podmanEnvironment(lab) };
    await run('podman', ['pull', '--tls-verify=false', name], o);
    const said = await run('podman', ['run', '--rm', '--pull=never', '--network=none', name], o);
    expect(said.toString().trim()).toBe(GREETING);
  });

  test('is the mirror of a registry that is gone, by registries.conf of podman and skopeo', async () => {
    const conf = join(lab.folder, 'registries.conf');
    await writeFile(
      conf,
      `[[registry]]\nprefix = "registry.gone.example"\nlocation = "registry.gone.example"\n[[registry.mirror]]\nlocation = "${host}"\ninsecure = true\n`,
    );
    const raw = await run(
      'skopeo',
      ['--registries-conf', conf, 'inspect', '--raw', `docker://registry.gone.example/${APP}:v1`],
      lab.o,
    );
    expect(parseManifest(raw, MEDIA_TYPE.ociIndex)).toMatchObject({ kind: 'index' });
  });

  test('asks for a login, and accepts one of `podman login` or a token', async () => {
    const [users, tokens] = [join(lab.folder, 'users'), join(lab.folder, 'tokens')];
    // the password is "secret"
    await writeFile(users, 'ann:$2y$05$grYerRSAoAiSd3pxtLctVeFVu5woOwajU.enttfW9Biaxd2QgPHgm\n');
    await writeFile(tokens, '0123456789abcdef0123456789abcdef\n');
    const closed = await serve(place, '--htpasswd', users, '--token-file', tokens);
    const inspect = async (...creds: readonly string[]): Promise<number | undefined> =>
      (
        await attempt(
          'skopeo',
          ['inspect', '--tls-verify=false', '--raw', ...creds, `docker://${closed}/${APP}:v1`],
          lab.o,
        )
      ).code;
    expect(await inspect()).not.toBe(0);
    expect(await inspect('--creds', 'ann:wrong')).not.toBe(0);
    expect(await inspect('--creds', 'ann:secret')).toBe(0);
    expect(await inspect('--creds', 'any:0123456789abcdef0123456789abcdef')).toBe(0);
  });

  test.skipIf(!isInstalled('oras'))('serves oras the image with its referrers', async () => {
    const layout = join(lab.folder, 'by-oras');
    await run('oras', ['cp', '-r', '--from-plain-http', '--to-oci-layout', name, `${layout}:v1`], lab.o);
    const found = await run('oras', ['discover', '--plain-http', '--format', 'json', name], lab.o);
    expect(found.toString()).toContain(lab.image.sbom.digest);
  });

  test.skipIf(!isInstalled('crane'))('serves crane an image that it finds whole', async () => {
    await run('crane', ['validate', '--insecure', '--remote', name], lab.o);
    expect((await run('crane', ['catalog', '--insecure', host], lab.o)).toString().trim()).toBe(APP);
  });

  test.skipIf(!isInstalled('regctl'))('serves regctl the image, its referrers and its cosign tags', async () => {
    await run('regctl', ['registry', 'set', '--tls', 'disabled', host], lab.o);
    const layout = `ocidir://${join(lab.folder, 'by-regctl')}`;
    await run('regctl', ['image', 'copy', '--referrers', '--digest-tags', name, `${layout}:v1`], lab.o);
    const referrers = await run('regctl', ['artifact', 'list', '--format', 'raw-body', name], lab.o);
    expect(referrers.toString()).toContain(lab.image.sbom.digest);
  });

  test.skipIf(!isInstalled('conformance'))('passes the pull tests of the OCI conformance suite', async () => {
    const index = parseManifest(await rawManifest(`docker://${name}`, lab.o), MEDIA_TYPE.ociIndex);
    const manifests = index.kind === 'index' ? index.manifests : [];
    const blobs: string[] = [];
    for (const { digest } of manifests) {
      const raw = await rawManifest(`docker://${host}/${APP}@${digest}`, lab.o);
      const manifest = parseManifest(raw, MEDIA_TYPE.ociManifest);
      if (manifest.kind === 'image') for (const one of [manifest.config, ...manifest.layers]) blobs.push(one.digest);
    }
    const results = join(lab.folder, 'results');
    const env = {
      ...lab.o.env,
      OCI_REGISTRY: host,
      OCI_TLS: 'disabled',
      OCI_REPO1: APP,
      OCI_VERSION: '1.1',
      OCI_RESULTS_DIR: results,
      OCI_API_PUSH: 'false',
      OCI_API_BLOBS_DELETE: 'false',
      OCI_API_MANIFESTS_DELETE: 'false',
      OCI_API_TAGS_DELETE: 'false',
      OCI_API_BLOBS_DIGEST_HEADER: 'true',
      OCI_RO_DATA_TAGS: 'v1',
      OCI_RO_DATA_MANIFESTS: [lab.image.root, ...manifests].map(({ digest }) => digest).join(' '),
      OCI_RO_DATA_BLOBS: [...new Set(blobs)].join(' '),
      OCI_RO_DATA_REFERRERS: lab.image.root.digest,
    };
    // its exit code is ignored: a build without its repository panics after the tests, while it writes its report
    const { stdout, stderr } = await attempt('conformance', [], { env, cwd: lab.folder });
    const said = `${stdout.toString()}\n${stderr}`;
    expect(said).toMatch(/^ +FAIL\.*: +0$/m);
    expect(said).toMatch(/^OCI Conformance Result: Pass$/m);
    expect(said).toMatch(/^ +Manifest get by tag\.*: +Pass$/m);
  });
});
