/** The list in its order, split into parts of at most `maxCharacters` of JSON: services limit the size of documents. */
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

/** The size of a string in JSON: with quotes and a comma. */
function sizeOfText(text: string): number {
  return text.length + 3;
}
