import type { ObjectFailure, PublishResult } from '../images/publish.ts';
import { mayPass } from '../queue/redelivery.ts';
import { describeFailure, Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

/** How many failed objects one failure names. */
const NAMED = 3;

/** One failure for all objects that could not be published: one that may pass where one of theirs may. Undefined where none failed. */
export function failureOfObjects({ from, objects, failures }: PublishResult): Failure | undefined {
  const first = failures.find(({ failure }) => mayPass(failure)) ?? failures[0];
  if (first === undefined) return undefined;
  const { failed, published, unchanged } = objects;
  const named = failures.slice(0, NAMED).map(sentenceOf);
  const more = failed > named.length ? `; and ${failed - named.length} more` : '';
  const all = published + unchanged + failed;
  const message = `publish ${from}: ${failed} of ${all} objects failed, the others are published: ${named.join('; ')}${more}`;
  // each object names its own side and place
  const context = { ...first.failure.context, side: undefined, image: undefined, location: undefined };
  return new Failure(first.failure.code, message, { cause: first.failure, context });
}

function sentenceOf({ key, failure }: ObjectFailure): string {
  return `${quote(key)}: ${describeFailure(failure)}`;
}
