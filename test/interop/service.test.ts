// Rules, a pass of the planner and a worker process between registries of other projects; skopeo checks the result.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { startStack } from '../../local/stack.ts';
import { rawManifest } from '../support/interop-image.ts';
import { APP, openLab } from '../support/interop-lab.ts';
import { run, skopeo, transship, transshipJson } from '../support/interop-process.ts';
import { startWorker } from '../support/worker-process.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { image, registry } = lab;

test('a rule mirrors docker-registry to two others and backs up the digests that skopeo pushed, and does nothing the second time', async () => {
  await using stack = await startStack({ folder: join(lab.folder, 'stack') });
  const o = { env: { ...lab.o.env, ...stack.environment } };
  const [one, two] = [await lab.startRegistry('one'), await lab.startRegistry('two')];
  const rules = join(lab.folder, 'rules.yaml');
  await writeFile(
    rules,
    `version: 1
rules:
  - name: mirror
    mirror:
      from: ${registry.host}/${APP}
      to: ["${one.host}/copy/{repository}", "${two.host}/copy/{repository}"]
      tags: { include: ["v*"] }
    schedule: "0 0 1 1 *"
  - name: backup
    backup: { from: "${registry.host}/${APP}", to: "s3://${stack.bucket}/nightly/{repository}/{tag}.tar", tags: ["v1"] }
    schedule: "0 0 1 1 *"
`,
  );
  await run(...transship(['apply', '-f', rules]), o);
  await run(...transship(['planner', '--once']), o);
  await using worker = startWorker(o.env);
  for (const rule of ['mirror', 'backup']) await run(...transship(['enqueue', rule, '--wait']), o);

  const pushed = await rawManifest(`docker://${registry.host}/${APP}:v1`, o);
  for (const host of [one.host, two.host]) {
    expect(await rawManifest(`docker://${host}/copy/${APP}:v1`, o)).toEqual(pushed);
    expect(await rawManifest(`docker://${host}/copy/${APP}:${image.signatureTag}`, o)).toEqual(
      await rawManifest(`docker://${registry.host}/${APP}:${image.signatureTag}`, o),
    );
  }
  await skopeo(['copy', '--all', `docker://${two.host}/copy/${APP}:v1`, `dir:${join(lab.folder, 'two-as-dir')}`], o);
  const archive = join(lab.folder, 'v1.tar');
  await run(...transship(['copy', `s3://${stack.bucket}/nightly/${APP}/v1.tar`, `oci-archive:${archive}`]), o);
  expect(await run('skopeo', ['inspect', '--raw', `oci-archive:${archive}`], o)).toEqual(pushed);

  // done: the plan, and for archives the snapshot
  for (const [rule, done] of [
    ['mirror', 1],
    ['backup', 2],
  ] as const) {
    const again = await transshipJson<object>(['enqueue', rule, '--wait'], o);
    expect(again).toMatchObject({ unchanged: 1, jobs: { done, skipped: 0, failed: 0 } });
  }
  const status = await transshipJson<object>(['status'], o);
  expect(status).toMatchObject({ faulty: false, deadLetters: 0 });
  worker.kill('SIGTERM');
  expect(await worker.ended).toBe(0);
});
