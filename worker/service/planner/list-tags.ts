import type { Source } from '../../content/content.ts';
import { cosignSubject } from '../../oci/derived-tag.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Candidate, CopyRule } from '../../rules/rule.ts';
import { select } from '../../rules/select.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure, ifFound, isFailure, onSide } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import { shortened } from './plan-jobs.ts';
import { byName, REQUESTS_AT_ONCE, type Resolved, type SourceList } from './source-list.ts';

/** The list of a registry that lists names: each that is wanted costs a request. */
export async function listTags(rule: CopyRule, source: Source, nowMs: number, options: Abortable): Promise<SourceList> {
  const candidates: Candidate[] = [];
  /** The image that each signature is about (`shortened`), by the signature's tag. */
  const signatures = new Map<string, string>();
  for await (const tag of source.tags(options)) {
    const subject = cosignSubject(tag);
    if (subject === undefined) candidates.push(tagged(tag));
    else signatures.set(tag, shortened(subject));
  }
  return {
    selected: select(candidates, rule.tags, nowMs).toSorted(byName),
    resolve: async (some, taskOptions) => resolveTags(source, some, taskOptions),
    referrers: async (isWanted, taskOptions) => {
      const wanted = [...signatures].filter(([, subject]) => isWanted(subject)).map(([tag]) => tagged(tag));
      const { images } = await resolveTags(source, wanted, taskOptions);
      const referrers = new Map<string, string[]>();
      for (const { tag = '', digest } of images) {
        const subject = signatures.get(tag) ?? '';
        referrers.set(subject, [...(referrers.get(subject) ?? []), shortened(digest)]);
      }
      return referrers;
    },
    // the list does not show what refers to an image by the referrers API
    unreferenced: false,
    archived: [],
  };
}

function tagged(tag: string): Candidate {
  return { tag, digest: undefined, pushedAtMs: undefined };
}

async function resolveTags(source: Source, candidates: readonly Candidate[], options: Abortable): Promise<Resolved> {
  const digests = new Map<string, Digest>();
  const failed: { readonly candidate: Candidate; readonly failure: Failure }[] = [];
  await forEachOf(
    candidates,
    REQUESTS_AT_ONCE,
    async (candidate, taskOptions) => {
      const { tag } = candidate;
      if (tag === undefined) throw new Failure('BUG', 'an image without a tag in a list of tags');
      try {
        const found = await onSide('source', ifFound(source.resolve(tag, taskOptions)));
        if (found !== undefined) digests.set(tag, found.digest);
      } catch (error) {
        // a registry that does not answer or denies access would do so for every tag
        if (!isFailure(error, 'INVALID', 'UNSUPPORTED', 'CORRUPT')) throw error;
        failed.push({ candidate, failure: error });
      }
    },
    options,
  );
  const images = candidates.flatMap(({ tag }) => {
    const digest = tag === undefined ? undefined : digests.get(tag);
    return digest === undefined ? [] : [{ tag, digest }];
  });
  return { images, failed };
}
