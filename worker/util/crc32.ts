/** The reversed polynomial of CRC-32 (IEEE 802.3), that of `zlib.crc32` and of S3. Bit 31 stands for x⁰. */
const POLYNOMIAL = 0xedb88320;
const ONE = 0x80000000;

/** Entry n is x to the power of 2ⁿ: up to the bits of 2⁵³ bytes. */
const POWERS = powersOfX(57);

/**
 * The CRC-32 of `a` followed by `b`, from the CRC-32 of each and the length of `b` in bytes (any safe integer). What stands in front of n
 * bytes is multiplied by x⁸ⁿ, so only the length has to be known, and 10,000 parts of 50 TB combine in milliseconds.
 */
export function crc32Combine(a: number, b: number, lengthOfB: number): number {
  let shifted = a >>> 0;
  // 8n bits: the table is entered at 2³; numbers over 2³² rule out bit operators on the length
  for (let rest = lengthOfB, n = 3; rest > 0; rest = Math.floor(rest / 2), n++) {
    const power = POWERS[n];
    if (rest % 2 === 1 && power !== undefined) shifted = multiply(shifted, power);
  }
  return (shifted ^ b) >>> 0;
}

/** The product of two polynomials over GF(2), modulo the CRC's. */
function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= factor;
    factor = (factor & 1) === 0 ? factor >>> 1 : (factor >>> 1) ^ POLYNOMIAL;
  }
  return product >>> 0;
}

function powersOfX(count: number): readonly number[] {
  const powers = [ONE >>> 1];
  for (let last = ONE >>> 1; powers.length < count; powers.push(last)) last = multiply(last, last);
  return powers;
}
