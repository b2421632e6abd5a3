import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import type { HttpRequest } from './transport/layer.ts';
import type { Transport } from './transport/transport.ts';

/** Some registries give all their tags at once, whatever page is asked for. */
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
/** Of a thousand entries each. A list that is longer was made to have no end. */
const MAX_PAGES = 10_000;

/** The JSON objects of a list, page by page, as the registry's own Links lead: verbatim, since what they hold is its own affair. */
export async function* pages(
  transport: Transport,
  first: Omit<HttpRequest, 'method' | 'accept'>,
  options: Abortable,
): AsyncGenerator<Readonly<Record<string, unknown>>, void, undefined> {
  const seen = new Set<string>();
  let next: URL | string | undefined = first.url;
  while (next !== undefined) {
    const request: HttpRequest = { ...first, method: 'GET', url: next, accept: [200] };
    const answer = await transport.send(request, { ...options, limit: MAX_PAGE_BYTES });
    yield parsePage(first.what, answer.bytes);
    const link = parseNextLink(answer.header('link'));
    if (link === undefined) return;
    next = transport.lead(first.what, link, answer.url);
    if (seen.size === MAX_PAGES)
      throw new Failure('UNSUPPORTED', `${first.what}: the registry's list does not end within ${MAX_PAGES} pages`);
    if (seen.has(next.href))
      throw new Failure('UNSUPPORTED', `${first.what}: the registry's pages go round in a circle`);
    seen.add(next.href);
  }
}

/** Where a Link header says that the next page is: https://www.rfc-editor.org/rfc/rfc8288#section-3 */
export function parseNextLink(header: string | undefined): string | undefined {
  for (const [, url, parameters = ''] of (header ?? '').matchAll(/(?:^|,)\s*<([^<>]*)>((?:\s*;[^,<]*)*)/g)) {
    if (/;\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next(?=\s*(?:;|$)))/i.test(parameters)) return url;
  }
  return undefined;
}

function parsePage(what: string, bytes: Buffer): Readonly<Record<string, unknown>> {
  let body: unknown;
  try {
    body = JSON.parse(bytes.toString());
  } catch (cause) {
    throw new Failure('UNSUPPORTED', `${what}: the registry did not answer with JSON`, { cause });
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new Failure('UNSUPPORTED', `${what}: the registry did not answer with a JSON object`);
  return body as Readonly<Record<string, unknown>>;
}
