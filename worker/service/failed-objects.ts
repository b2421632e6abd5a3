import type { ObjectFailure, PublishResult } from '../images/publish-result.ts';
import { mayPass } from '../queue/redelivery.ts';
import { describeFailure, Failure } from '../util/failure.ts';
import { highest } from '../util/lists.ts';
import { quote } from '../util/text.ts';

/** How many failed objects one failure names. */
const NAMED = 3;

/**
 * One failure for all objects that could not be published. It may pass where one of theirs may, such as that of an object which changed while
 * it was read. Undefined where no object failed.
 */
export function failureOfObjects({ from, objects, failures }: PublishResult): Failure | undefined {
  const passing = failures.find(({ failure }) => mayPass(failure) || hasChanged(failure));
  const first = passing ?? failures[0];
  if (first === undefined) return undefined;
  const { failed, published, unchanged } = objects;
  const named = failures.slice(0, NAMED).map(sentenceOf);
  const more = failed > named.length ? `; and ${failed - named.length} more` : '';
  const all = published + unchanged + failed;
  const message = `publish ${from}: ${failed} of ${all} objects failed, the others are published: ${named.join('; ')}${more}`;
  // each object names its own side and place
  const retryAfterMs = highest(
    failures.map(({ failure }) => failure.context.retryAfterMs ?? 0),
    0,
  );
  const context = { ...first.failure.context, side: undefined, image: undefined, location: undefined, retryAfterMs };
  const code = hasChanged(first.failure) ? 'UNAVAILABLE' : first.failure.code;
  return new Failure(code, message, { cause: first.failure, context });
}

function hasChanged({ code, context }: Failure): boolean {
  return code === 'CONFLICT' && context.side === 'source';
}

function sentenceOf({ key, failure }: ObjectFailure): string {
  return `${quote(key)}: ${describeFailure(failure)}`;
}
