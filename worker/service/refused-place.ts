import { KEEPS_NOTHING } from '../retention/plan.ts';

/** Why nothing of a place is deleted by a rule, and what to do: a rule has no `--allow-empty`, which the command `prune` has. */
export function refusedPlace(place: string, refused: string): string {
  const fix =
    refused === KEEPS_NOTHING
      ? ': change the policy so that it keeps something, or run `transship prune` with --allow-empty'
      : '';
  return `prune ${place}: nothing was deleted: ${refused}${fix}`;
}
