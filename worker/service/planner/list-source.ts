import type { Registry } from '../../images/backends.ts';
import type { CopyRule } from '../../rules/rule.ts';
import type { Abortable } from '../../util/abort.ts';
import { onSide } from '../../util/failure.ts';
import { listImages } from './list-images.ts';
import { listTags } from './list-tags.ts';
import type { Pushed, SourceList } from './source-list.ts';

/**
 * Lists a repository and selects from it. ECR is asked by pages of 1,000 images. Other registries list names: no request is made for those
 * that are not selected. `pushed` limits it to the images that these pushes concern, whether the list shows them already or not. NOT_FOUND
 * without the repository; UNAVAILABLE when the list does not show a push without a tag yet.
 */
export async function listSource(
  rule: CopyRule,
  registry: Registry,
  repository: string,
  nowMs: number,
  options: Abortable & { readonly pushed?: readonly Pushed[] | undefined },
): Promise<SourceList> {
  const source = registry.repository(repository);
  return onSide(
    'source',
    registry.images === undefined
      ? listTags(rule, source, nowMs, options)
      : listImages(rule, source, registry.images(repository, options), nowMs, options),
  );
}
