import { archiveBytes } from '../archive/compressed-writer.ts';
import { planArchive } from '../archive/plan.ts';
import type { Bytes } from '../content/content.ts';
import { digestsOf, foreignOf } from '../content/graph.ts';
import { onSide } from '../util/failure.ts';
import { NO_NAME } from './archive-target.ts';
import type { Backends, OperationOptions } from './backends.ts';
import type { ImageTarget } from './image-target.ts';

export interface StreamTargetRequest {
  readonly output: Backends['standardStreams']['output'];
  /** Plans, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** Standard output as the target of one image: its archive, plain, in order. Failures carry their side. */
export function streamTarget({ output, dryRun }: StreamTargetRequest, options: OperationOptions): ImageTarget {
  const counted = async function* (body: Bytes): Bytes {
    for await (const chunk of body) {
      yield chunk;
      options.report?.({ type: 'bytes-sent', bytes: chunk.byteLength });
    }
  };
  return {
    current: undefined,
    write: async ({ source, graph, repository = NO_NAME }) => {
      const layout = planArchive(graph, { tag: graph.roots[0]?.tags[0], repository });
      const written = { manifests: digestsOf(graph), foreign: foreignOf(graph), bytesReused: 0, bytesSkipped: 0 };
      if (dryRun === true) return { ...written, outcome: 'planned', bytesToSend: layout.size };
      await onSide('target', output(counted(archiveBytes(layout, source, options)), options));
      return { ...written, outcome: 'copied' };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}
