// Every method of an interface has a caller in the program: uncalled code still has permissions, and its faults do not show.
import { afterAll, expect, test } from 'vitest';
import { readCallGraph } from './support/call-graph.ts';

const graph = readCallGraph();
afterAll(() => graph[Symbol.dispose]());

const INTERFACES = [
  ['worker/content/content.ts', 'Source'],
  ['worker/content/content.ts', 'Target'],
  ['worker/images/backends.ts', 'Backends'],
  ['worker/images/backends.ts', 'Registry'],
  ['worker/images/deletions.ts', 'Deletions'],
  ['worker/images/deletions.ts', 'ImageDeletions'],
  ['worker/objects/deletable.ts', 'DeletableStore'],
  ['worker/objects/objects.ts', 'ObjectStore'],
  ['worker/objects/objects.ts', 'Upload'],
  ['worker/objects/objects.ts', 'InPlace'],
  ['worker/queue/queue.ts', 'Delivery'],
  ['worker/queue/queue.ts', 'Queue'],
  ['worker/state/state.ts', 'Destinations'],
  ['worker/state/state.ts', 'Rules'],
  ['worker/state/state.ts', 'JobWriter'],
  ['worker/state/state.ts', 'RunReader'],
  ['worker/state/state.ts', 'RunWriter'],
  ['worker/state/state.ts', 'StateStore'],
  ['worker/state/table.ts', 'Table'],
] as const;

test.each(INTERFACES)('%s: every method of %s has a caller', (file, name) => {
  const callers = graph.callersOf(file, name);
  expect(callers.size).toBeGreaterThan(0);
  expect([...callers].filter(([, units]) => units.length === 0).map(([method]) => method)).toEqual([]);
});

test('leads from the worker and the planner to no code that deletes images or archives', () => {
  const deleting =
    /registry\/deletions|ecr\/deletions|s3\/delete\.ts|\.(?:deletions|deleteImages|remove)$|connectDeleting/;
  const reached = (...entries: readonly string[]): readonly string[] =>
    graph
      .reachableFrom(...entries)
      .map(({ name }) => name)
      .filter((name) => deleting.test(name));
  expect(reached('worker/main/run-worker.ts runWorker', 'worker/main/planner.lambda.ts handler')).toEqual([]);
  const cleaner = reached('worker/main/cleaner.lambda.ts handler');
  expect(cleaner).toContain('worker/objects/s3/delete.ts removeObjects');
  expect(cleaner).toContain('worker/registry/ecr/deletions.ts EcrDeletions.deleteImages');
});

test('counts neither a decorator that passes a call on nor a test as a caller', () => {
  const names = (file: string, name: string, method: string): readonly string[] =>
    graph
      .callersOf(file, name)
      .get(method)
      ?.map((unit) => unit.name) ?? [];
  const has = names('worker/content/content.ts', 'Target', 'has');
  expect(has).toContain('worker/copy/copy.ts CopySession.#blob');
  expect(has).not.toContain('worker/content/dry-run.ts dryRun');
  expect(has.filter((name) => !name.startsWith('worker/'))).toEqual([]);
});
