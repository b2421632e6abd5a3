import type { Digest } from '../oci/digest.ts';
import type { Inventory, Item } from '../retention/inventory.ts';
import { Failure } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';
import type { DeletingBackends, ImageDeletions } from './deletions.ts';
import { readRepository } from './inventories.ts';
import { artifactMark, MARK_NAME, MARK_TAG } from './scratch-mark.ts';

/** What became of a scratch repository. `kept`: it has no mark, or that of a drill which is not over. */
export type ScratchEnd = 'deleted' | 'kept' | 'gone';

/**
 * Deletes a scratch repository if `isOver` holds for its mark. In ECR it deletes the repository itself, in other registries the manifests, the mark
 * last, so that a deletion which was stopped goes on. Idempotent. Throws the failure of what the registry does not delete.
 */
export async function deleteScratch(
  { registry: host, repository }: { readonly registry: string; readonly repository: string },
  isOver: (mark: string) => boolean | Promise<boolean>,
  backends: DeletingBackends,
  options: OperationOptions,
): Promise<ScratchEnd> {
  const deletions = backends.deletions.images(host, repository);
  if (deletions.whole !== undefined) {
    const tags = await deletions.whole.tags(options);
    if (tags === undefined) return 'gone';
    const mark = tags[MARK_TAG];
    if (mark === undefined || !(await isOver(mark))) return 'kept';
    await deletions.whole.remove(options);
    return 'deleted';
  }
  const mark = await artifactMark(backends.registry(host, 'target').repository(repository), options);
  if (mark === undefined || !(await isOver(mark))) return 'kept';
  const inventory = await readRepository(host, repository, backends, options);
  if (inventory.incomplete !== undefined)
    throw new Failure('UNAVAILABLE', `${host}/${repository} could not be read, so it stays: ${inventory.incomplete}`);
  await deleteAll(inventory, deletions, options);
  return 'deleted';
}

async function deleteAll({ items }: Inventory, deletions: ImageDeletions, options: OperationOptions): Promise<void> {
  const marks = items.filter(({ tags }) => tags.includes(MARK_NAME));
  const left = new Set(items.filter((item) => !marks.includes(item)));
  while (left.size > 0) {
    const going = nextOf(left);
    await removed(going, deletions, options);
    for (const item of going) left.delete(item);
  }
  await removed(marks, deletions, options);
}

/** The items that no other item lists, and that refer to no other item: images go before what belongs to them. */
function nextOf(left: ReadonlySet<Item>): readonly Item[] {
  const present = new Set<Digest>([...left].flatMap(({ digest }) => digest ?? []));
  const listed = new Set<Digest>([...left].flatMap(({ children }) => children));
  const free = [...left].filter(
    ({ digest, subject }) =>
      (digest === undefined || !listed.has(digest)) && (subject === undefined || !present.has(subject)),
  );
  return free.length === 0 ? [...left] : free;
}

async function removed(items: readonly Item[], deletions: ImageDeletions, options: OperationOptions): Promise<void> {
  const [first] = await deletions.deleteImages(
    items.flatMap(({ digest }) => digest ?? []),
    options,
  );
  if (first !== undefined) throw first.failure;
}
