import { isFailure } from '../../util/failure.ts';
import { shown } from './mapping.ts';

/** An entry that no rule is made of, and why. */
export class NoRule extends Error {
  readonly where: string;

  constructor(where: string, message: string) {
    super(message);
    this.where = where;
  }
}

/** What `work` gives. NoRule, with `text` and the reason, where it is INVALID. */
export function attempt<T>(where: string, text: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    throw new NoRule(where, `${shown(text)}: ${error.message}`);
  }
}
