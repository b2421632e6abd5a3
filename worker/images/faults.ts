import type { Report } from '../util/events.ts';
import { redacted } from '../util/text.ts';

/** What goes wrong beside the images of a batch. */
export interface Faults {
  readonly messages: readonly string[];
  /** Keeps `message` for the result and reports it as a warning, both without secrets. */
  add(message: string): void;
}

/** An empty list of faults. */
export function collectFaults(report: Report | undefined): Faults {
  const messages: string[] = [];
  return {
    messages,
    add: (text) => {
      const message = redacted(text);
      messages.push(message);
      report?.({ type: 'warning', message });
    },
  };
}
