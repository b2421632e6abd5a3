import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Stack } from '../stack.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import { extract } from '../../worker/images/extract.ts';
import { publishedAt } from '../../worker/rules/destinations.ts';
import type { SyncRecord } from '../../worker/state/state.ts';
import { Failure } from '../../worker/util/failure.ts';

const PREFIX = 'documents/';
const KIB = 1024;

/** What is there when the rules are applied: two are equal, and one has no bytes. */
const FIRST = new Map([
  ['contracts/lease.txt', Buffer.alloc(300 * KIB, 'lease ')],
  ['contracts/2026/lease.txt', Buffer.alloc(300 * KIB, 'lease ')],
  ['Überblick.csv', Buffer.from('contract;amount\nlease;12\n')],
  ['empty', Buffer.alloc(0)],
]);
/** What is written while workers run. */
const LATER = new Map([['contracts/report.txt', Buffer.alloc(200 * KIB, 'report ')]]);

/** Objects of the bucket that the demo publishes, and extracts again. */
export class DemoDocuments {
  readonly #stack: Stack;
  readonly #backends: Backends;
  readonly #options: OperationOptions;
  readonly #put = new Map<string, Buffer>();

  constructor(parts: { readonly stack: Stack; readonly backends: Backends; readonly options: OperationOptions }) {
    this.#stack = parts.stack;
    this.#backends = parts.backends;
    this.#options = parts.options;
  }

  /** The rule that publishes them, as a part of a rules file. */
  get rule(): string {
    return `  - name: documents
    publish:
      from: s3://${this.#stack.bucket}/${PREFIX}
      to: ${this.#repository}
    on: push
    schedule: "* * * * * *"
`;
  }

  /** The key of what the state remembers of the repository. */
  get destination(): Pick<SyncRecord, 'group' | 'name'> {
    return publishedAt(this.#repository);
  }

  /** Whether the record covers every document that was written. */
  isPublished(record: SyncRecord | undefined): boolean {
    return record?.bytes === this.#bytes;
  }

  /** Puts the objects that are there at first; returns their bytes. */
  async putFirst(): Promise<number> {
    return this.#putAll(FIRST);
  }

  /** Puts one more; returns its bytes. */
  async putLater(): Promise<number> {
    return this.#putAll(LATER);
  }

  /** Extracts the last snapshot into a folder; returns what it wrote. CORRUPT unless each file is what was put. */
  async extract(folder: string): Promise<{ readonly files: number; readonly bytes: number; readonly digest: string }> {
    const from = { registry: this.#stack.ecr.registryHost, repository: 'documents', tag: 'latest' };
    const result = await extract({ from, to: { transport: 'folder', path: folder } }, this.#backends, this.#options);
    for (const [name, bytes] of this.#put) {
      if (!(await readFile(join(folder, name))).equals(bytes))
        throw new Failure(
          'CORRUPT',
          `compare ${name}: the extracted file has other bytes than the object that was put`,
        );
    }
    return { files: result.objects.written, bytes: result.bytesWritten, digest: result.digest };
  }

  get #repository(): string {
    return `${this.#stack.ecr.registryHost}/documents`;
  }

  get #bytes(): number {
    return [...this.#put.values()].reduce((sum, bytes) => sum + bytes.length, 0);
  }

  async #putAll(objects: ReadonlyMap<string, Buffer>): Promise<number> {
    const store = this.#backends.bucket(this.#stack.bucket);
    let sum = 0;
    for (const [name, bytes] of objects) {
      await store.write(`${PREFIX}${name}`, bytes, this.#options);
      this.#put.set(name, bytes);
      sum += bytes.length;
    }
    return sum;
  }
}
