import { compareListed } from '../oci/list-order.ts';
import { Refusal } from './answer.ts';

/** The most of one list in one answer: a page of tags is 1.3 MB at most. */
const MAX_PAGE = 10_000;

/** One page of a list that the API gives in parts. */
export interface ListPage<T> {
  readonly page: readonly T[];
  /** The Link to what comes after it; empty where nothing does. */
  readonly headers: Readonly<Record<string, string>>;
}

/** A request for part of a list. */
export interface ListRequest {
  /** The path of the list, for the Link. */
  readonly path: string;
  readonly query: URLSearchParams;
}

/**
 * The part of a list that `n` and `last` of the query ask for. `items` are in the order of `compareListed` by their keys. Without `n`, and where it is
 * more, `MAX_PAGE` items. Throws a Refusal for an `n` that is not a number.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags
 */
export function pageOf<T>(items: readonly T[], keyOf: (item: T) => string, { path, query }: ListRequest): ListPage<T> {
  const asked = query.get('n');
  if (asked !== null && !/^[0-9]{1,9}$/.test(asked))
    throw new Refusal(400, 'UNSUPPORTED', 'n is the number of items of a page');
  const size = Math.min(asked === null ? MAX_PAGE : Number(asked), MAX_PAGE);
  const last = query.get('last');
  const from = last === null ? 0 : firstAfter(items, keyOf, last);
  const page = items.slice(from, from + size);
  const end = page.at(-1);
  if (end === undefined || from + page.length >= items.length) return { page, headers: {} };
  const next = new URLSearchParams(query);
  next.set('n', String(size));
  next.set('last', keyOf(end));
  return { page, headers: { link: `<${path}?${next.toString()}>; rel="next"` } };
}

/** The place of the first item after `last`, which need not be in the list. */
function firstAfter<T>(items: readonly T[], keyOf: (item: T) => string, last: string): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = items[middle];
    if (item !== undefined && compareListed(keyOf(item), last) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
