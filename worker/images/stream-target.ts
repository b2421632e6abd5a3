import { archiveBytes } from '../archive/compressed-writer.ts';
import { digestsOf, foreignOf } from '../content/graph.ts';
import { reportTaken } from '../content/report-sent.ts';
import type { Report } from '../util/events.ts';
import { onSide } from '../util/failure.ts';
import { layoutOf } from './archive-target.ts';
import type { OperationOptions, StandardStreams } from './backends.ts';
import type { ImageTarget } from './image-target.ts';

/** How standard output is written. */
export interface StreamTargetRequest {
  readonly streams: StandardStreams;
  /** Plans, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** Standard output as the target of one image: its archive, uncompressed, from the first byte to the last. Failures carry their side. */
export function streamTarget({ streams, dryRun }: StreamTargetRequest, options: OperationOptions): ImageTarget {
  const report: Report = (event) => options.report?.(event);
  return {
    current: undefined,
    write: async (image) => {
      const { source, graph } = image;
      const layout = layoutOf(image);
      const written = { manifests: digestsOf(graph), foreign: foreignOf(graph), bytesReused: 0, bytesSkipped: 0 };
      if (dryRun === true) return { ...written, outcome: 'planned', bytesToSend: layout.size };
      await onSide('target', streams.output(reportTaken(archiveBytes(layout, source, options), report), options));
      return { ...written, outcome: 'copied' };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}
