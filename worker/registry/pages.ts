import type { Abortable } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { parseLinks } from './links.ts';
import type { HttpRequest } from './transport/layer.ts';
import type { Transport } from './transport/transport.ts';

/** Some registries give all their tags at once, whatever page is asked for. Parsed, a page takes some thirty times its bytes. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** Pages have a thousand entries each. A list of more pages is taken for one without an end. */
const MAX_PAGES = 10_000;
/** The names of one list are held in memory, by their callers too. */
const MAX_NAMES = 1_000_000;
const MAX_CHARACTERS = 256 * MAX_NAMES;
/** Registries that leave out what the caller may not see answer with empty pages in between. */
const MAX_PAGES_WITHOUT_NEW = 100;
/** ECR takes no larger page: https://github.com/google/go-containerregistry/issues/1091 */
const NAMES_PER_PAGE = 1000;

type PageRequest = Omit<HttpRequest, 'method' | 'accept'>;
type Page = Readonly<Record<string, unknown>>;

/**
 * The JSON objects of a list, page by page. Follows the registry's Links verbatim, because only the registry knows what they mean. UNSUPPORTED
 * when a Link cannot be read: taking its page for the last would silently lose the others.
 */
export async function* pages(
  transport: Transport,
  first: PageRequest,
  options: Abortable,
): AsyncGenerator<Page, void, undefined> {
  const seen = new Set<string>();
  let next: URL | string | undefined = first.url;
  while (next !== undefined) {
    const request: HttpRequest = { ...first, method: 'GET', url: next, accept: [200] };
    const answer = await transport.send(request, { ...options, limit: MAX_PAGE_BYTES });
    yield parsePage(first.what, answer.bytes);
    const link = parseNextLink(first.what, answer.header('link'));
    if (link === undefined) return;
    next = transport.lead(first.what, link, answer.url);
    if (seen.size === MAX_PAGES) throw endless(first.what, `${MAX_PAGES} pages`);
    if (seen.has(next.href))
      throw new Failure('UNSUPPORTED', `${first.what}: the registry's pages go round in a circle`);
    seen.add(next.href);
  }
}

interface NamesRequest extends PageRequest {
  readonly url: string;
  /** The member of each page that lists the names. */
  readonly member: 'tags' | 'repositories';
  readonly report: Report | undefined;
  /**
   * Asks for more after a last page of any length, in case a proxy dropped its Link, and fails with UNSUPPORTED where a full page is the last one
   * because the registry refuses to say what follows. Default false.
   */
  readonly whole?: boolean | undefined;
}

/**
 * The names of a list, each once: registries repeat names where pages overlap. Some registries omit the Link of a full page, so the names after its
 * last one are requested until none is new; a registry that refuses this has no more names, and is reported.
 */
export async function* names(
  transport: Transport,
  { member, report, whole = false, ...first }: NamesRequest,
  options: Abortable,
): AsyncGenerator<string, void, undefined> {
  const seen = new Set<string>();
  let pagesSeen = 0;
  let charactersSeen = 0;
  let pagesWithoutNew = 0;
  let after: string | undefined;
  let isFull = false;
  for (;;) {
    const seenBefore = seen.size;
    const pagesBefore = pagesSeen;
    let listed: readonly unknown[] = [];
    try {
      for await (const page of pages(transport, { ...first, url: urlAfter(first.url, after) }, options)) {
        if (++pagesSeen > MAX_PAGES) throw endless(first.what, `${MAX_PAGES} pages`);
        const seenBeforePage = seen.size;
        listed = listOf(first.what, page[member]);
        for (const name of listed) {
          if (typeof name !== 'string' || seen.has(name)) continue;
          charactersSeen += name.length;
          if (seen.size === MAX_NAMES) throw endless(first.what, `${MAX_NAMES} names`);
          if (charactersSeen > MAX_CHARACTERS) throw endless(first.what, `${MAX_CHARACTERS} characters`);
          seen.add(name);
          yield name;
        }
        pagesWithoutNew = seen.size === seenBeforePage ? pagesWithoutNew + 1 : 0;
        if (pagesWithoutNew === MAX_PAGES_WITHOUT_NEW) throw stuck(first.what);
      }
    } catch (error) {
      const isRefused = after !== undefined && pagesSeen === pagesBefore;
      if (!isRefused || !isFailure(error, 'NOT_FOUND', 'INVALID', 'UNSUPPORTED')) throw error;
      if (whole && isFull)
        throw new Failure(
          'UNSUPPORTED',
          `${error.message}; the list may be longer than its first ${seenBefore} names`,
          { cause: error },
        );
      const message = `${error.message}; the list is taken to end with its ${seenBefore} names`;
      if (isFull) report?.({ type: 'warning', message });
      return;
    }
    const last = listed.at(-1);
    isFull = listed.length >= NAMES_PER_PAGE;
    if ((!isFull && !whole) || typeof last !== 'string' || seen.size === seenBefore) return;
    after = last;
  }
}

/** Requests after which a list counts as long. */
const FEW_REQUESTS = 3;
/** A page with fewer names was not cut short by a registry or a proxy: no page size is that small. */
const SMALLEST_CUT_PAGE = 10;
/** Every page size that registries have is a multiple of this: a list of another length was not cut. */
const PAGE_SIZES_SHARE = 5;

/**
 * All names of a list that ends within a few requests, so that a name which is not among them is absent; undefined for a longer one. A last page
 * that a lost Link may have cut is followed by one more request, as `whole` does in `names`; undefined where the registry does not say what
 * follows it.
 */
export async function fewNames(
  transport: Transport,
  { member, ...first }: Omit<NamesRequest, 'report' | 'whole'>,
  options: Abortable,
): Promise<ReadonlySet<string> | undefined> {
  const found = new Set<string>();
  let requests = 0;
  let last: unknown;
  for (;;) {
    const [before, requestsBefore] = [found.size, requests];
    const url = urlAfter(first.url, typeof last === 'string' ? last : undefined);
    const mayBeCut = before > 0 && before % PAGE_SIZES_SHARE === 0;
    try {
      for await (const page of pages(transport, { ...first, url }, options)) {
        const listed = listOf(first.what, page[member]);
        for (const name of listed) if (typeof name === 'string') found.add(name);
        last = listed.at(-1);
        // the same page again: the registry takes no notice of `last`
        if (mayBeCut && last !== undefined && found.size === before) return undefined;
        // the last request has to show that nothing follows
        if (++requests >= FEW_REQUESTS && found.size > before) return undefined;
      }
    } catch (error) {
      const isRefused = requests > 0 && isFailure(error, 'NOT_FOUND', 'INVALID', 'UNSUPPORTED');
      if (!isRefused) throw error;
      // the registry does not state what follows its last page, or does not have the page that its Link names
      return mayBeCut || requests > requestsBefore ? undefined : found;
    }
    if (found.size < SMALLEST_CUT_PAGE || found.size === before || typeof last !== 'string') return found;
  }
}

function urlAfter(url: string, after: string | undefined): string {
  return `${url}?n=${NAMES_PER_PAGE}${after === undefined ? '' : `&last=${encodeURIComponent(after)}`}`;
}

/** The target of the `next` link of a Link header; undefined without one. UNSUPPORTED when the header cannot be read. */
export function parseNextLink(what: string, header: string | undefined): string | undefined {
  for (const link of parseLinks(header ?? '')) {
    if (link === undefined)
      throw new Failure(
        'UNSUPPORTED',
        `${what}: the registry's Link header cannot be read, so the list may be incomplete`,
      );
    if (link.relations.includes('next')) return link.target;
  }
  return undefined;
}

function endless(what: string, bound: string): Failure {
  return new Failure('UNSUPPORTED', `${what}: the registry's list does not end within ${bound}`);
}

function stuck(what: string): Failure {
  return new Failure(
    'UNSUPPORTED',
    `${what}: the registry's list has ${MAX_PAGES_WITHOUT_NEW} pages in a row without a new name`,
  );
}

function listOf(what: string, value: unknown): readonly unknown[] {
  const list = value ?? [];
  if (Array.isArray(list)) return list;
  throw new Failure('UNSUPPORTED', `${what}: the registry did not answer with a list`);
}

function parsePage(what: string, bytes: Buffer): Page {
  let body: unknown;
  try {
    body = JSON.parse(bytes.toString());
  } catch (cause) {
    throw new Failure('UNSUPPORTED', `${what}: the registry did not answer with JSON`, { cause });
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new Failure('UNSUPPORTED', `${what}: the registry did not answer with a JSON object`);
  return body as Page;
}
