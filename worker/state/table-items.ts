import type * as Sdk from '@aws-sdk/client-dynamodb';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Proxies } from '../util/proxies.ts';
import { renewingCredentials } from '../util/renew-credentials.ts';
import { calling } from '../util/sdk-failure.ts';
import { sdkRequests } from '../util/sdk-requests.ts';

/** What an attribute holds: a string, a number, a list or set of strings; null for everything else. */
export type ItemAttribute = string | number | readonly string[] | null;

export interface TableItemsOptions extends Abortable {
  /** Its name. */
  readonly table: string;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

/**
 * Every item of any table of DynamoDB, page by page, as strongly consistent reads of each page give it. With region, endpoint and credentials of
 * the SDK's own environment. NOT_FOUND where there is no such table.
 *
 * IAM action: dynamodb:Scan.
 */
export async function* tableItems({
  table,
  proxies,
  signal,
}: TableItemsOptions): AsyncGenerator<Readonly<Record<string, ItemAttribute>>> {
  const what = `read table ${table}`;
  const sdk = await import('@aws-sdk/client-dynamodb');
  const client = renewingCredentials(new sdk.DynamoDBClient({ ...sdkRequests(proxies), maxAttempts: 4 }));
  try {
    let next: Sdk.ScanCommandInput['ExclusiveStartKey'];
    do {
      const page = { TableName: table, ConsistentRead: true, ExclusiveStartKey: next };
      const answer = await calling(what, 'dynamodb:Scan', { signal }, async (sdkOptions) =>
        client.send(new sdk.ScanCommand(page), sdkOptions),
      );
      for (const item of answer.Items ?? [])
        yield Object.fromEntries(Object.entries(item).map(([name, value]) => [name, attributeOf(value)]));
      next = answer.LastEvaluatedKey;
    } while (next !== undefined);
  } catch (error) {
    if (!isFailure(error, 'NOT_FOUND')) throw error;
    const { cause, context } = error;
    const hint = 'check its name, AWS_REGION and the account';
    throw new Failure('NOT_FOUND', `${what}: there is no such table: ${hint}`, { cause, context });
  } finally {
    client.destroy();
  }
}

function attributeOf({ S, N, SS, L }: Sdk.AttributeValue): ItemAttribute {
  if (S !== undefined) return S;
  if (N !== undefined) return Number(N);
  return SS ?? L?.flatMap((one) => (one.S === undefined ? [] : [one.S])) ?? null;
}
