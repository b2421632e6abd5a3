import { z } from 'zod';

const value = z.union([
  z.strictObject({ S: z.string() }),
  z.strictObject({ N: z.string() }),
  z.strictObject({ SS: z.array(z.string()) }),
]);
const output = z.strictObject({ Items: z.array(z.record(z.string(), value)) });

/** The items in the output of `aws dynamodb scan`. */
export function cuppettScan(text: string): z.infer<typeof output>['Items'] {
  return output.parse(JSON.parse(text)).Items;
}

/** The same items as the program reads them from the table. */
export function cuppettItems(text: string): Readonly<Record<string, string | number | readonly string[]>>[] {
  return cuppettScan(text).map((item) =>
    Object.fromEntries(
      Object.entries(item).map(([name, one]) => [name, 'S' in one ? one.S : 'N' in one ? Number(one.N) : one.SS]),
    ),
  );
}
