import type { ObjectFailure } from '../images/publish-result.ts';
import { describeFailure } from '../util/failure.ts';
import { formatBytes, formatDuration, printable } from './text.ts';

/** The result of a command that moves objects, for programs and for people. */
interface MovedObjects {
  readonly from: string;
  readonly to: string;
  readonly outcome: string;
  readonly objects: Readonly<Record<string, number>>;
  readonly failures: readonly ObjectFailure[];
}

/** The result as JSON: failures as their codes and sentences. */
export function objectsJson(result: MovedObjects, seconds: number): object {
  const failures = result.failures.map(({ key, failure }) => ({
    key,
    code: failure.code,
    message: describeFailure(failure),
  }));
  return { ...result, seconds, failures };
}

/** The result in lines. `moved` is the word for what happened to the bytes: `sent` or `written`. */
export function objectsText(
  { from, to, outcome, objects, failures }: MovedObjects,
  more: { readonly lines: readonly string[]; readonly bytes: number; readonly moved: string; readonly seconds: number },
): string {
  const counts = Object.entries(objects).map(([name, count]) => `${name} ${count}`);
  const failed = objects['failed'] ?? 0;
  const hasMoved = ['published', 'removed', 'written'].some((name) => (objects[name] ?? 0) > 0);
  return [
    `${failed > 0 && !hasMoved ? 'failed' : outcome} ${printable(from)} -> ${to}`,
    ...more.lines,
    `${outcome === 'planned' ? 'would be: ' : ''}${counts.join(', ')}`,
    `${formatBytes(more.bytes)} ${more.moved} in ${formatDuration(more.seconds * 1000)}`,
    ...failures.map(({ key, failure }) => `failed: ${printable(key)}: ${printable(describeFailure(failure))}`),
    ...(failed > failures.length ? [`failed: ${failed - failures.length} more`] : []),
  ].join('\n');
}
