import { CopyBudget } from '../copy/budget.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { reportAbout, type Event } from '../util/events.ts';
import { describeFailure, toFailure, type Failure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { copyImage, type ImageCopyRequest, type ImageCopyResult } from './copy-image.ts';
import { countSent } from './count-sent.ts';
import { formatLocation } from '../oci/location.ts';
import type { Backends, OperationOptions } from './backends.ts';

/** What became of one image of several. */
export interface ItemResult {
  readonly from: string;
  readonly to: string;
  readonly outcome: ImageCopyResult['outcome'] | 'failed';
  readonly digest?: string | undefined;
  /** Bytes that left for the target, also where the image failed. */
  readonly bytesSent: number;
  /** What a dry run without a `result` would send. */
  readonly bytesToSend?: number;
  readonly result?: ImageCopyResult;
  readonly failure?: Failure;
}

/** What became of all images that one command named. */
export interface BatchResult {
  readonly items: readonly ItemResult[];
  /** What went wrong beside the images, such as settings that could not be read. */
  readonly faults: readonly string[];
}

/** How many images are copied at once: more than one, because small images spend their time waiting. One budget bounds the bytes of all. */
export const IMAGES_AT_ONCE = 4;

/** The options of copies that run at once: they share a budget. */
export function sharingBudget(options: OperationOptions): OperationOptions {
  return options.budget === undefined ? { ...options, budget: new CopyBudget(options.concurrency) } : options;
}

/** Copies each image. One that fails is reported, and the others go on. Throws only ABORTED. */
export async function copyImages(
  requests: readonly ImageCopyRequest[],
  backends: Backends,
  options: OperationOptions,
): Promise<readonly ItemResult[]> {
  const items = new Map<ImageCopyRequest, ItemResult>();
  const shared = sharingBudget(options);
  options.report?.({ type: 'images-planned', images: requests.length });
  const one = async (request: ImageCopyRequest, taskOptions: Abortable): Promise<void> => {
    const [from, to] = [formatLocation(request.from), formatLocation(request.to)];
    const sent = countSent(reportAbout(options.report, { image: from }));
    const settle = (item: ItemResult): void => {
      items.set(request, item);
      options.report?.(doneOf(item));
    };
    try {
      const result = await copyImage(request, backends, { ...shared, ...taskOptions, report: sent.report });
      const { outcome, digest } = result;
      settle({ from, to: result.to, outcome, digest, bytesSent: sent.bytes, result });
    } catch (error) {
      checkAborted(options);
      settle({ from, to, outcome: 'failed', bytesSent: sent.bytes, failure: toFailure(error) });
    }
  };
  await forEachOf(
    byDestination(requests),
    options.imagesAtOnce ?? IMAGES_AT_ONCE,
    async (group, taskOptions) => {
      for (const request of group) await one(request, taskOptions);
    },
    options,
  );
  return requests.flatMap((request) => items.get(request) ?? []);
}

/** The event that reports what became of an image. */
export function doneOf({ from: image, to, outcome, digest, bytesSent, failure }: ItemResult): Event {
  const why = failure === undefined ? {} : { code: failure.code, message: describeFailure(failure) };
  return { type: 'image-done', image, to, outcome, digest, bytesSent, ...why };
}

/** Requests for one destination come one after the other. */
function byDestination(requests: readonly ImageCopyRequest[]): readonly (readonly ImageCopyRequest[])[] {
  return [...Map.groupBy(requests, ({ to }) => formatLocation(to)).values()];
}
