/**
 * The part of `size` bytes that the Range header of a GET asks for, half open: `undefined` for the whole, `'none'` where there is nothing to give
 * (416). What is malformed, or of several ranges, is passed over: https://www.rfc-editor.org/rfc/rfc9110.html#section-14.2
 */
export function parseRange(
  header: string | undefined,
  size: number,
): { readonly from: number; readonly to: number } | 'none' | undefined {
  const [, first, last] = /^bytes=([0-9]{0,16})-([0-9]{0,16})$/.exec(header ?? '') ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined;
  if (first === '') {
    const bytes = Math.min(Number(last), size);
    return bytes === 0 ? 'none' : { from: size - bytes, to: size };
  }
  const from = Number(first);
  if (last !== '' && Number(last) < from) return undefined;
  if (from >= size) return 'none';
  return { from, to: last === '' ? size : Math.min(Number(last) + 1, size) };
}
