import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lab } from './interop-lab.ts';
import type { Environment } from './interop-process.ts';

/** Settings under which podman needs no systemd, overlay, network or raised limit, as in a container of a CI. */
export async function podmanEnvironment(lab: Lab): Promise<Environment> {
  const containers = join(lab.folder, 'containers.conf');
  const storage = join(lab.folder, 'storage.conf');
  await writeFile(
    containers,
    `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`,
  );
  await writeFile(
    storage,
    `[storage]
driver = "vfs"
graphroot = ${JSON.stringify(join(lab.folder, 'graph'))}
runroot = ${JSON.stringify(join(lab.folder, 'run'))}
`,
  );
  return { ...lab.o.env, CONTAINERS_CONF: containers, CONTAINERS_STORAGE_CONF: storage };
}
