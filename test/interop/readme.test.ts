import { cp, mkdir, readFile, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { attempt, CHECKOUT, createWorkspace, run, succeeded } from '../support/interop-process.ts';

/** The block of shell commands under a heading of README.md. */
async function commandsUnder(heading: string): Promise<string> {
  const text = await readFile(join(CHECKOUT, 'README.md'), 'utf8');
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  const block = /^```sh\n(.*?)^```$/ms.exec(section)?.[1];
  if (block === undefined) throw new Error(`README.md has no block of commands under ${heading}`);
  return block;
}

test('the five minutes of the README work as written', async () => {
  await using workspace = await createWorkspace();
  // in a copy of the checkout after `npm ci`, so that files left by the commands are not in this one
  const checkout = join(workspace.folder, 'checkout');
  await mkdir(checkout);
  for (const name of await readdir(CHECKOUT)) {
    if (name === 'node_modules') await symlink(join(CHECKOUT, name), join(checkout, name));
    else if (name !== '.git' && name !== 'dist')
      await cp(join(CHECKOUT, name), join(checkout, name), { recursive: true });
  }
  const o = { env: { ...workspace.env, npm_config_update_notifier: 'false' }, cwd: checkout };

  const commands = await commandsUnder('Five minutes');
  // `wait`: the commands end what they start in the background; if they do not get there, the whole process group is ended
  const script = `trap '[ $? -eq 0 ] || kill -KILL 0' EXIT\n${commands}\nwait`;
  const ran = await attempt('timeout', ['170', 'bash', '-e', '-u', '-o', 'pipefail', '-c', script], o);
  const said = `${succeeded(ran).toString()}\n${ran.stderr}`;

  const digest = /^digest +(sha256:[0-9a-f]{64})$/m.exec(said)?.[1] ?? '';
  expect(digest).not.toBe('');
  expect(said).toMatch(/unchanged .* s3:\/\/transship-backups\//); // the second backup
  expect(said.match(/^whole /gm)).toHaveLength(2); // the archive, and the restored image against the first
  expect(said).not.toContain('FAULTY');
  expect(said).toMatch(/^1 added, 0 changed/m);
  expect(said).toMatch(/^run request-\S+ ended in .*: done (?:3, unchanged 0|2, unchanged 1), failed 0/m); // the plan, the snapshot, and the image, unless its push copied it
  expect(said).toMatch(/^queue: .*; dead letters: 0$/m);
  const raw = await run('skopeo', ['inspect', '--raw', `oci-archive:${join(checkout, 'app.tar')}`], o);
  expect(JSON.parse(raw.toString())).toMatchObject({ manifests: [{}, {}] });
});
