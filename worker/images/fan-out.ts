import type { Source } from '../content/content.ts';
import { preferCopy } from '../content/prefer-copy.ts';
import { anyOf, checkAborted } from '../util/abort.ts';
import { isFailure, toFailure, type Failure } from '../util/failure.ts';
import type { Location } from '../oci/location.ts';
import type { Backends, OperationOptions, RepositoryOptions } from './backends.ts';
import { openLocation } from './open-location.ts';
import {
  openChosen,
  writeImage,
  type ChosenImage,
  type ImageChoices,
  type ImageCopyResult,
  type WriteChoices,
} from './copy-image.ts';
import { isCompressed } from './archive-target.ts';

export interface FanOutRequest<T extends FanOutTarget> extends Omit<ImageChoices, 'dryRun'> {
  readonly from: Location;
  readonly to: readonly T[];
}

/** One of several places for an image. */
export interface FanOutTarget {
  readonly location: Location;
  /** Ends what is written there, and only that. */
  readonly signal?: AbortSignal | undefined;
}

/** What became of one of them. */
export type FanOutItem<T extends FanOutTarget> =
  { readonly target: T; readonly result: ImageCopyResult } | { readonly target: T; readonly failure: Failure };

/**
 * Makes every place equal to the image at `from`, in their order, and gives each as soon as it is settled. The image is looked up once, so
 * that all are equal to each other, and its content is read once: the first place is filled from the source, the others from the first that
 * succeeded. One that fails does not stop the others; only that the image cannot be found, and an abort of all, are thrown. Idempotent.
 */
export async function* fanOut<T extends FanOutTarget>(
  request: FanOutRequest<T>,
  backends: Backends,
  options: OperationOptions,
): AsyncGenerator<FanOutItem<T>, void, undefined> {
  await using image = await openChosen(request.from, request, backends, options);
  await using opened = new AsyncDisposableStack();
  const filled: Location[] = [];
  let copy: Source | undefined;
  for (const [index, target] of request.to.entries()) {
    checkAborted(options);
    const taskOptions = { ...options, signal: anyOf(options.signal, target.signal) };
    let item: FanOutItem<T>;
    try {
      const result = await fill(image, copy, target.location, { ...request, alsoAt: filled }, backends, taskOptions);
      filled.push(target.location);
      if (index < request.to.length - 1)
        copy ??= await openNear(target.location, opened, backends, request, taskOptions);
      item = { target, result };
    } catch (error) {
      checkAborted(options);
      item = { target, failure: toFailure(error) };
    }
    yield item;
  }
}

async function fill(
  image: ChosenImage,
  copy: Source | undefined,
  to: Location,
  choices: WriteChoices,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageCopyResult> {
  if (copy !== undefined) {
    try {
      return await writeImage({ ...image, source: preferCopy(copy, image.source) }, to, choices, backends, options);
    } catch (error) {
      checkAborted(options);
      // wrong bytes that came from nearby say nothing of the source
      if (!isFailure(error, 'CORRUPT') || error.context.side !== 'source') throw error;
    }
  }
  return writeImage(image, to, choices, backends, options);
}

/** What was written to `location`, to be read again; undefined where that is no help. Closed with `opened`. */
async function openNear(
  location: Location,
  opened: AsyncDisposableStack,
  backends: Backends,
  { create }: RepositoryOptions,
  options: OperationOptions,
): Promise<Source | undefined> {
  if (location.transport === 'docker') {
    const { registry, repository } = location.reference;
    return backends.registry(registry, 'target').repository(repository, { create });
  }
  // a compressed archive would have to be unpacked
  if (location.transport === 's3' && isCompressed(location.key)) return undefined;
  try {
    const { source } = opened.use(await openLocation(backends, location, 'target', options));
    return source;
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    return undefined;
  }
}
