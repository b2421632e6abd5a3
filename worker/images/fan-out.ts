import type { Source } from '../content/content.ts';
import { preferCopy } from '../content/prefer-copy.ts';
import { isCompressed } from '../oci/archive-key.ts';
import type { Location } from '../oci/location.ts';
import { anyOf, checkAborted } from '../util/abort.ts';
import { isFailure, toFailure, type Failure } from '../util/failure.ts';
import type { Backends, OperationOptions, RepositoryOptions } from './backends.ts';
import { countSent } from './count-sent.ts';
import {
  selectImage,
  writeImage,
  type ImageChoices,
  type ImageCopyResult,
  type SettingsNaming,
  type WriteRequest,
} from './copy-image.ts';
import { openLocation } from './open-location.ts';

export interface FanOutRequest<T extends FanOutTarget>
  extends Omit<ImageChoices, 'dryRun' | 'keepExisting'>, SettingsNaming {
  readonly from: Location;
  readonly to: readonly T[];
}

/** One of several targets for an image. */
export interface FanOutTarget {
  readonly location: Location;
  /** Ends what is written there, and only that. */
  readonly signal?: AbortSignal | undefined;
}

/** What became of one of them. */
export type FanOutItem<T extends FanOutTarget> =
  | { readonly target: T; readonly result: ImageCopyResult }
  /** `bytesSent`: what left for it before it failed. */
  | { readonly target: T; readonly failure: Failure; readonly bytesSent: number };

/**
 * Makes every target equal to the image at `from`, in their order, and gives each as soon as it is settled. The image is looked up once, so
 * that all are equal to each other, and its content is read once: the first target is filled from the source, the others from the first that
 * succeeded. One that fails does not stop the others. Throws only when the image cannot be opened at `from`, and when all of it is aborted.
 * Idempotent.
 */
export async function* fanOut<T extends FanOutTarget>(
  request: FanOutRequest<T>,
  backends: Backends,
  options: OperationOptions,
): AsyncGenerator<FanOutItem<T>, void, undefined> {
  const { create, force, trustTarget, settingsDigest } = request;
  await using image = await selectImage(request.from, request, backends, options);
  await using opened = new AsyncDisposableStack();
  const filled: Location[] = [];
  let copy: Source | undefined;
  for (const [index, target] of request.to.entries()) {
    checkAborted(options);
    const { location } = target;
    const sent = countSent(options.report);
    const taskOptions = { ...options, report: sent.report, signal: anyOf(options.signal, target.signal) };
    let item: FanOutItem<T>;
    try {
      const write = { image, to: location, create, force, trustTarget, settingsDigest, alsoAt: filled };
      const result = await writeFromCopy(copy, write, backends, taskOptions);
      filled.push(location);
      if (index < request.to.length - 1) copy ??= await openFilled(location, opened, backends, request, taskOptions);
      item = { target, result: { ...result, bytesSent: sent.bytes } };
    } catch (error) {
      checkAborted(options);
      item = { target, failure: toFailure(error), bytesSent: sent.bytes };
    }
    yield item;
  }
}

/** Writes the image with the content of `copy`, or from its source where there is no copy or that turns out to be wrong. */
async function writeFromCopy(
  copy: Source | undefined,
  request: WriteRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageCopyResult> {
  const { image } = request;
  if (copy !== undefined) {
    try {
      const copied = { ...image, source: preferCopy(copy, image.source) };
      return await writeImage({ ...request, image: copied }, backends, options);
    } catch (error) {
      checkAborted(options);
      // wrong bytes from the copy are not evidence about the source
      if (!isFailure(error, 'CORRUPT') || error.context.side !== 'source') throw error;
    }
  }
  return writeImage(request, backends, options);
}

/** A target that was filled, to be read for the next ones; undefined where that is no help. Closed with `opened`. */
async function openFilled(
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
