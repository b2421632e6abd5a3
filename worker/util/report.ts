import type { Code } from './failure.ts';

/** How a blob or manifest came to be at the target. */
export type Outcome = 'copied' | 'mounted' | 'exists' | 'foreign';

/** Everything that is worth telling while work goes on. Logs, metrics and progress bars read this one stream. Digests as text. */
export type Event =
  /** The graph is known: how many blobs and bytes there are in all, before anything is skipped. */
  | { readonly type: 'planned'; readonly blobs: number; readonly manifests: number; readonly bytes: number }
  | { readonly type: 'blob-started'; readonly digest: string; readonly bytes: number }
  /** `bytes` more of the blob were taken from the source. */
  | { readonly type: 'blob-progress'; readonly digest: string; readonly bytes: number }
  | { readonly type: 'blob-done'; readonly digest: string; readonly bytes: number; readonly outcome: Outcome }
  | { readonly type: 'manifest-done'; readonly digest: string; readonly bytes: number; readonly outcome: Outcome }
  | { readonly type: 'tagged'; readonly name: string; readonly digest: string }
  /** The target did not take something that refers to the image; the image itself is not affected. */
  | { readonly type: 'referrer-refused'; readonly digest: string; readonly code: Code; readonly message: string }
  | {
      readonly type: 'retry';
      readonly what: string;
      readonly attempt: number;
      readonly delayMs: number;
      readonly code: Code;
      readonly message: string;
    }
  | { readonly type: 'warning'; readonly message: string };

export type Report = (event: Event) => void;
