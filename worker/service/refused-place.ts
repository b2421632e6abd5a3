/** Why nothing of a place is deleted, for a rule: it has no flag of the command `prune` that permits more. */
export function refusedPlace(place: string, refused: string): string {
  const why = refused.replace('--allow-empty permits that', 'keep something of it, or prune it by the command');
  return `nothing is deleted of ${place}: ${why}`;
}
