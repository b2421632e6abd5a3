import { dryRun } from '../content/dry-run.ts';
import { reportSent } from '../content/report-sent.ts';
import type { Source, Target } from '../content/content.ts';
import type { Root } from '../content/graph.ts';
import { copy } from '../copy/copy.ts';
import { Shown } from '../copy/shown.ts';
import type { Descriptor } from '../oci/manifest.ts';
import type { Event, Report } from '../util/events.ts';
import type { OperationOptions } from './backends.ts';
import type { ImageTarget } from './image-target.ts';

export interface RepositoryTargetRequest {
  readonly target: Source & Target;
  /** The image, with the tags that it gets there. */
  readonly root: Root;
  /** Repositories at the same registry that have the image too. */
  readonly mountFrom: readonly string[];
  /** Reports what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Names the target among those of copies that run at once. Absent: no other copy writes there. */
  readonly place?: string | undefined;
  /** Whether a target that shows a manifest is trusted to have all that is below it. Default false: everything is asked for. */
  readonly trusted?: boolean | undefined;
  /** Whether the target is expected not to have the image, so that it is asked for the digest first. Default false. */
  readonly isNew?: boolean | undefined;
  /** Called with the image when all of it is written. */
  readonly finish?: ((image: Descriptor) => Promise<void>) | undefined;
}

/** A repository, of a registry or of a layout folder, as the target of one image. Failures carry `target`. */
export async function openRepositoryTarget(
  request: RepositoryTargetRequest,
  options: OperationOptions,
): Promise<ImageTarget> {
  const { target, root, mountFrom, trusted = false, isNew = false } = request;
  const shown = new Shown(target);
  const { digest } = root.descriptor;
  if (isNew && trusted) await shown.find(digest, options);
  // a trusted target has the image only where it shows it under every tag
  // one that has the image is asked for the manifest next
  const isThere = await shown.areAll(trusted ? root.tags : root.tags.slice(0, 1), digest, {
    ...options,
    willRead: !isNew,
  });
  return {
    current: isThere ? target : undefined,
    isTrusted: isThere && trusted,
    onShown: (manifest) => shown.note(manifest),
    write: async ({ source, graph }) => {
      const report: Report = (event) => {
        if (request.dryRun !== true || !isWrite(event)) options.report?.(event);
      };
      const written = request.dryRun === true ? dryRun(target) : reportSent(target, report);
      const copied = await copy(source, written, graph.roots, {
        ...options,
        report,
        graph,
        mountFrom,
        place: request.place,
        shown: trusted ? shown : undefined,
      });
      const { manifests, tallies, foreign } = copied;
      const unsent = { bytesReused: tallies.mounted.bytes, bytesSkipped: tallies.exists.bytes + tallies.trusted.bytes };
      if (request.dryRun === true)
        return { outcome: 'planned', manifests, foreign, copied, ...unsent, bytesToSend: tallies.copied.bytes };
      for (const { descriptor } of graph.roots) await request.finish?.(descriptor);
      const isUnchanged = isThere && tallies.copied.count + tallies.mounted.count === 0;
      return { outcome: isUnchanged ? 'unchanged' : 'copied', manifests, foreign, copied, ...unsent };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** Whether the event reports a write. */
function isWrite(event: Event): boolean {
  return event.type === 'tagged' || ('outcome' in event && event.outcome === 'copied');
}
