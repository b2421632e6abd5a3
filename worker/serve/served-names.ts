import type { ServedRepository } from '../images/served-images.ts';
import { compareListed } from '../oci/list-order.ts';
import { isRepositoryName } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';

/** Docker Hub's host as containerd sends it in `ns`. */
const DOCKER_HUB = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/**
 * Under which names the repositories of a backup are served: as their registry names them where the backup is of one registry, else with its host
 * in front. Pure.
 */
export class ServedNames {
  /** In the order of lists. */
  readonly all: readonly string[];
  readonly #listed = new Map<string, ServedRepository>();
  readonly #withHost = new Map<string, ServedRepository>();
  readonly #bare = new Map<string, ServedRepository | 'several'>();

  /** INVALID where two repositories would have one name. */
  constructor(repositories: readonly ServedRepository[]) {
    const isOne = new Set(repositories.map(({ registry }) => registry)).size <= 1;
    for (const repository of repositories) {
      const { registry, name } = repository;
      const whole = nameWithHost(registry, name);
      const listed = isOne ? name : whole;
      if (this.#listed.has(listed))
        throw new Failure('INVALID', `serve ${listed}: two registries of this backup have it under this name`);
      this.#listed.set(listed, repository);
      this.#withHost.set(whole, repository);
      this.#bare.set(name, this.#bare.has(name) ? 'several' : repository);
    }
    this.all = [...this.#listed.keys()].sort(compareListed);
  }

  /**
   * The repository that `name` stands for in a request: as it is listed; with its host in front; or, where one registry alone has it, without.
   * `namespace` is the registry that containerd asks a mirror for, which then decides.
   * https://github.com/containerd/containerd/blob/main/docs/hosts.md#registry-host-namespace
   */
  find(name: string, namespace?: string): ServedRepository | undefined {
    if (namespace !== undefined) {
      const host = DOCKER_HUB.has(namespace) ? 'docker.io' : namespace;
      const found = this.#withHost.get(nameWithHost(host, name));
      if (found !== undefined) return found;
    }
    const bare = this.#bare.get(name);
    return this.#listed.get(name) ?? this.#withHost.get(name) ?? (bare === 'several' ? undefined : bare);
  }
}

/** `host/name`, where `:` of a port and other characters that no name may have are `_`: `localhost_5000/team/app`. */
function nameWithHost(registry: string | undefined, name: string): string {
  if (registry === undefined) return name;
  const folder = registry
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, '_')
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '');
  return isRepositoryName(folder) ? `${folder}/${name}` : `${folder.replace(/[^a-z0-9]+/g, '_')}/${name}`;
}
