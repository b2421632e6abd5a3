import { formatRepository } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { toFailure, type Failure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { mirror, type MirrorRequest, type MirrorResult } from './copy-image.ts';
import { formatLocation } from '../oci/location.ts';
import type { Ends, OperationOptions } from './backends.ts';

/** What became of one image of several. */
export interface ItemResult {
  readonly from: string;
  readonly to: string;
  readonly outcome: MirrorResult['outcome'] | 'failed';
  readonly digest?: string;
  readonly result?: MirrorResult;
  readonly failure?: Failure;
}

/** What became of all images that one command named. */
export interface BatchResult {
  readonly items: readonly ItemResult[];
  /** What went wrong beside the images, such as settings that could not be read. */
  readonly faults: readonly string[];
}

/** Images at once: more than one, because small ones spend their time waiting; few, because each holds memory for its large blobs. */
export const IMAGES_AT_ONCE = 2;

/** Mirrors each; one that fails is reported and the others go on. Only an abort ends the whole. */
export async function mirrorAll(
  requests: readonly MirrorRequest[],
  ends: Ends,
  o: OperationOptions,
): Promise<readonly ItemResult[]> {
  const items = new Map<MirrorRequest, ItemResult>();
  const one = async (request: MirrorRequest, at: Abortable): Promise<void> => {
    const [from, to] = [formatLocation(request.from), formatLocation(request.to)];
    try {
      const result = await mirror(request, ends, { ...o, ...at });
      items.set(request, { from, to: result.to, outcome: result.outcome, digest: result.digest, result });
    } catch (error) {
      checkAborted(o);
      const failure = toFailure(error);
      items.set(request, { from, to, outcome: 'failed', failure });
      o.report?.({ type: 'warning', message: `${from}: ${failure.message}` });
    }
  };
  await forEachOf(
    byRepository(requests),
    IMAGES_AT_ONCE,
    async (group, at) => {
      for (const request of group) await one(request, at);
    },
    o,
  );
  return requests.flatMap((request) => items.get(request) ?? []);
}

/** Images of one repository share layers: one after the other, each is sent once. Those to archives are of no repository. */
function byRepository(requests: readonly MirrorRequest[]): readonly (readonly MirrorRequest[])[] {
  return [
    ...Map.groupBy(requests, ({ to }) =>
      to.transport === 'docker' ? formatRepository(to.reference) : formatLocation(to),
    ).values(),
  ];
}
