import type { Report } from '../util/events.ts';

/** Events on their way, and a count of what they report. */
interface SentCounter {
  readonly report: Report;
  /** Bytes that were reported as sent. */
  readonly bytes: number;
}

/** Passes events to `report`, and counts the bytes that were sent. */
export function countSent(report: Report | undefined): SentCounter {
  let bytes = 0;
  return {
    report: (event) => {
      if (event.type === 'bytes-sent') bytes += event.bytes;
      report?.(event);
    },
    get bytes() {
      return bytes;
    },
  };
}
