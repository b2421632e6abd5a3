/** The list in its order, in parts of so many characters of JSON at the most: services take documents of a certain size only. */
export function inParts(list: readonly string[], maxCharacters: number, sizeOf = sizeOfText): readonly string[][] {
  const parts: string[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const one of list) {
    size += sizeOf(one);
    if (size > maxCharacters) {
      parts.push([]);
      size = sizeOf(one);
    }
    parts.at(-1)?.push(one);
  }
  return parts;
}

/** In quotes, with a comma. */
function sizeOfText(text: string): number {
  return text.length + 3;
}
