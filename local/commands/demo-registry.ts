import type { Stack } from '../stack.ts';
import type { Look } from '../../worker/commands/look.ts';
import { formatBytes } from '../../worker/commands/text.ts';
import { formatTable } from '../../worker/commands/table.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import { Failure } from '../../worker/util/failure.ts';

/** A step of the demo, and a table to show before it is over. */
interface Told {
  readonly what: string;
  readonly digest?: string;
  readonly bytes?: number;
  readonly table?: string;
}

/** A whole registry that is backed up into a store, lost, and brought back from its snapshot. */
export class DemoRegistry {
  readonly #stack: Stack;
  readonly #backends: Backends;
  readonly #options: OperationOptions;
  readonly #store: string;

  constructor(parts: { readonly stack: Stack; readonly backends: Backends; readonly options: OperationOptions }) {
    this.#stack = parts.stack;
    this.#backends = parts.backends;
    this.#options = parts.options;
    this.#store = `store:s3://${parts.stack.bucket}/registry/`;
  }

  /** UNAVAILABLE unless everything was stored. */
  async backUp(tool: string): Promise<Told> {
    const { backupToStore } = await import('../../worker/images/backup-store.ts');
    const request = { from: this.#stack.ecr.registryHost, to: this.#store, tool, untagged: true };
    const { snapshot, failures, repositories, added, imageBytes } = await backupToStore(
      request,
      this.#backends,
      this.#options,
    );
    const [failure] = failures;
    if (failure !== undefined || snapshot === undefined)
      throw new Failure('UNAVAILABLE', `back up the registry: ${failure?.reason ?? 'there is no snapshot'}`);
    const what = `${repositories} repositories, each blob once: ${formatBytes(added.bytes)} for images of ${formatBytes(imageBytes)}`;
    return { what, digest: `sha256:${snapshot.id}`, bytes: added.bytes };
  }

  async lose(): Promise<Told> {
    const registry = this.#backends.registry(this.#stack.ecr.registryHost, 'target');
    const names = await Array.fromAsync(registry.repositories('', this.#options));
    for (const name of names) await this.#stack.deleteRepository(name);
    return { what: `gone: ${names.join(', ')}` };
  }

  /** CORRUPT unless the registry is as the snapshot describes it. */
  async bringBack(look: Look): Promise<Told> {
    const { restoreSnapshot } = await import('../../worker/images/restore-snapshot.ts');
    const request = { from: this.#store, to: this.#stack.ecr.registryHost, snapshot: 'latest' };
    const result = await restoreSnapshot(request, this.#backends, this.#options);
    const images = result.repositories.reduce((sum, one) => sum + one.images, 0);
    const equal = result.repositories.reduce((sum, { comparison }) => sum + (comparison?.equal ?? 0), 0);
    if (equal !== images || result.failures.length > 0 || result.faults.length > 0)
      throw new Failure('CORRUPT', `compare the registry with its snapshot: ${equal} of ${images} images are equal`);
    const bytes = result.repositories.reduce((sum, one) => sum + one.bytesSent, 0);
    const table = formatTable(
      ['repository', '>images', '>sent', '>equal to the snapshot'],
      result.repositories.map(({ to, images: count, bytesSent, comparison }) => [
        to.slice(to.indexOf('/') + 1),
        String(count),
        formatBytes(bytesSent),
        String(comparison?.equal ?? 0),
      ]),
      look,
    );
    return { what: `${images} images and their settings, all equal to the snapshot, digest by digest`, bytes, table };
  }
}
