import type { Source } from '../content/content.ts';
import { nearest } from '../content/prefer-copy.ts';
import { anyOf, checkAborted } from '../util/abort.ts';
import { isFailure, toFailure, type Failure } from '../util/failure.ts';
import type { Location } from '../oci/location.ts';
import type { Ends, OperationOptions, RepositoryOptions } from './backends.ts';
import { openLocation } from './open-location.ts';
import {
  openChosen,
  write,
  type ChosenImage,
  type ImageChoices,
  type MirrorResult,
  type WriteChoices,
} from './copy-image.ts';
import { isCompressed } from './write-archive.ts';

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
  { readonly target: T; readonly result: MirrorResult } | { readonly target: T; readonly failure: Failure };

/**
 * Makes every place equal to the image at `from`, in their order, and gives each as soon as it is settled. The image is looked up once, so
 * that all are equal to each other, and its content is read once: the first place is filled from the source, the others from the first that
 * succeeded. One that fails does not stop the others; only that the image cannot be found, and an abort of all, are thrown. Idempotent.
 */
export async function* fanOut<T extends FanOutTarget>(
  r: FanOutRequest<T>,
  ends: Ends,
  o: OperationOptions,
): AsyncGenerator<FanOutItem<T>, void, undefined> {
  await using image = await openChosen(r.from, r, ends, o);
  await using opened = new AsyncDisposableStack();
  const filled: Location[] = [];
  let near: Source | undefined;
  for (const [i, target] of r.to.entries()) {
    checkAborted(o);
    const at = { ...o, signal: anyOf(o.signal, target.signal) };
    let item: FanOutItem<T>;
    try {
      const result = await fill(image, near, target.location, { ...r, alsoAt: filled }, ends, at);
      filled.push(target.location);
      if (i < r.to.length - 1) near ??= await openNear(target.location, opened, ends, r, at);
      item = { target, result };
    } catch (error) {
      checkAborted(o);
      item = { target, failure: toFailure(error) };
    }
    yield item;
  }
}

async function fill(
  image: ChosenImage,
  near: Source | undefined,
  to: Location,
  choices: WriteChoices,
  ends: Ends,
  o: OperationOptions,
): Promise<MirrorResult> {
  if (near !== undefined) {
    try {
      return await write({ ...image, source: nearest(near, image.source) }, to, choices, ends, o);
    } catch (error) {
      checkAborted(o);
      // wrong bytes that came from nearby say nothing of the source
      if (!isFailure(error, 'CORRUPT') || error.context.side !== 'source') throw error;
    }
  }
  return write(image, to, choices, ends, o);
}

/** What was written to `location`, to be read again; undefined where that is no help. Closed with `opened`. */
async function openNear(
  location: Location,
  opened: AsyncDisposableStack,
  ends: Ends,
  { create }: RepositoryOptions,
  o: OperationOptions,
): Promise<Source | undefined> {
  if (location.transport === 'docker') {
    const { registry, repository } = location.reference;
    return ends.registry(registry, 'target').repository(repository, { create });
  }
  // a compressed archive would have to be unpacked
  if (location.transport === 's3' && isCompressed(location.key)) return undefined;
  try {
    const { source } = opened.use(await openLocation(ends, location, 'target', o));
    return source;
  } catch (error) {
    checkAborted(o);
    if (!isFailure(error)) throw error;
    return undefined;
  }
}
