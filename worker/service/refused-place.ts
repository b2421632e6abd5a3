import { KEEPS_NOTHING } from '../retention/plan.ts';

/** Why nothing of a place is deleted by a rule, and what to do: a rule has no `--allow-empty`, which the command `prune` has. */
export function refusedPlace(place: string, refused: string): string {
  const fix = refused === KEEPS_NOTHING ? ': keep something of it, or prune it by the command' : '';
  return `nothing is deleted of ${place}: ${refused}${fix}`;
}
