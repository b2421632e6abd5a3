import { z } from 'zod';

const value = z.strictObject({
  S: z.string().optional(),
  N: z.string().optional(),
  SS: z.array(z.string()).optional(),
});
const output = z.strictObject({ Items: z.array(z.record(z.string(), value)) });

/** The items in what `aws dynamodb scan` prints. */
export function cuppettScan(text: string): z.infer<typeof output>['Items'] {
  return output.parse(JSON.parse(text)).Items;
}

/** The same as the program reads them from the table. */
export function cuppettItems(text: string): Readonly<Record<string, string | number | readonly string[] | null>>[] {
  return cuppettScan(text).map((item) =>
    Object.fromEntries(
      Object.entries(item).map(([name, { S, N, SS }]) => [name, S ?? (N === undefined ? (SS ?? null) : Number(N))]),
    ),
  );
}
