/** Why nothing of a place is deleted, for a rule: it has no flag of the command `prune` that permits more. */
export function refusedPlace(place: string, refused: string): string {
  const why = refused.replace(
    '--allow-empty permits that',
    'change the policy so that it keeps something, or run `transship prune` with --allow-empty',
  );
  return `prune ${place}: nothing was deleted: ${why}`;
}
