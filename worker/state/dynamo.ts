import type * as Sdk from '@aws-sdk/client-dynamodb';
import { randomUUID } from 'node:crypto';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { proxiedAgent, type Proxies } from '../util/proxies.ts';
import { renewingCredentials } from '../util/renew-credentials.ts';
import { retry } from '../util/retry.ts';
import { calling } from '../util/sdk-failure.ts';
import type { StateStore } from './state.ts';
import { stateOver, type StateOptions } from './store.ts';
import type { Change, Expected, Item, ItemChange, Key, QueryOptions, Table, Updated, Value } from './table.ts';

export interface DynamoOptions extends StateOptions {
  /** Its name. */
  readonly table: string;
  readonly clock: Clock;
  /** Default: one with region, endpoint and credentials of the SDK's own environment. The given one is not closed. */
  readonly client?: Sdk.DynamoDBClient | undefined;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

const CONNECT_TIMEOUT_MS = 5000;
/** DynamoDB answers within milliseconds; a page of a query is 1 MB at most. */
const STALL_TIMEOUT_MS = 10_000;
const MAX_SOCKETS = 64;
/** About 15 seconds: what is not done by then is redelivered by the queue. */
const ATTEMPTS = 8;
const MAX_DELAY_MS = 5000;

/**
 * The state in a table of DynamoDB with the keys `pk` and `sk`, both strings, and expiry by `ttl`: docs/state.md. The SDK is loaded with the
 * first call.
 *
 * IAM actions: dynamodb:GetItem, dynamodb:BatchGetItem, dynamodb:UpdateItem, dynamodb:Query.
 */
export function openDynamo(options: DynamoOptions): StateStore & AsyncDisposable {
  const table = new DynamoTable(options);
  return { ...stateOver(table, options.clock, options), [Symbol.asyncDispose]: async () => table.close() };
}

class DynamoTable implements Table {
  readonly #options: DynamoOptions;
  #sdk: Promise<typeof Sdk> | undefined;
  #client: Sdk.DynamoDBClient | undefined;

  constructor(options: DynamoOptions) {
    this.#options = options;
  }

  async get({ pk, sk }: Key, options: Abortable = {}): Promise<Item | undefined> {
    const input = { TableName: this.#options.table, Key: { pk: { S: pk }, sk: { S: sk } }, ConsistentRead: true };
    const answer = await this.#call(`read ${pk}, ${sk}`, 'dynamodb:GetItem', options, async (client, sdk, sdkOptions) =>
      client.send(new sdk.GetItemCommand(input), sdkOptions),
    );
    return answer.Item && itemOf(answer.Item);
  }

  async getEach(keys: readonly Key[], options: Abortable = {}): Promise<readonly (Item | undefined)[]> {
    const { table } = this.#options;
    const [only] = keys;
    if (only === undefined) return [];
    if (keys.length === 1) return [await this.get(only, options)];
    const found = new Map<string, Item>();
    let left: Sdk.BatchGetItemCommandInput['RequestItems'] = {
      [table]: { Keys: keys.map(({ pk, sk }) => ({ pk: { S: pk }, sk: { S: sk } })), ConsistentRead: true },
    };
    const doing = `read ${keys.length} items`;
    await this.#call(doing, 'dynamodb:BatchGetItem', options, async (client, sdk, sdkOptions) => {
      const answer = await client.send(new sdk.BatchGetItemCommand({ RequestItems: left }), sdkOptions);
      for (const item of (answer.Responses?.[table] ?? []).map(itemOf)) found.set(nameOf(item), item);
      left = answer.UnprocessedKeys ?? {};
      const count = left[table]?.Keys?.length ?? 0;
      if (count > 0) throw new Failure('THROTTLED', `${doing} of table ${table}: ${count} were not read`);
    });
    return keys.map((key) => found.get(nameOf(key)));
  }

  async update(key: Key, change: Change, expected: Expected, options: Abortable = {}): Promise<Updated> {
    const { pk, sk } = key;
    const input: Sdk.UpdateItemCommandInput = {
      ...this.#updateOf({ key, change, expected }),
      ReturnValues: 'ALL_NEW',
      ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
    };
    const updated = await this.#call(
      `write ${pk}, ${sk}`,
      'dynamodb:UpdateItem',
      options,
      async (client, sdk, sdkOptions) => {
        try {
          const { Attributes = {} } = await client.send(new sdk.UpdateItemCommand(input), sdkOptions);
          return { done: true, item: itemOf(Attributes) } as const;
        } catch (error) {
          if (!(error instanceof sdk.ConditionalCheckFailedException)) throw error;
          return { done: false, item: error.Item && itemOf(error.Item) } as const;
        }
      },
    );
    // the item does not exist, or the endpoint does not return it
    return updated.done || updated.item !== undefined ? updated : { done: false, item: await this.get(key, options) };
  }

  async updateAll(changes: readonly ItemChange[], options: Abortable = {}): Promise<boolean> {
    const input: Sdk.TransactWriteItemsCommandInput = {
      TransactItems: changes.map((one) => ({ Update: this.#updateOf(one) })),
      // DynamoDB makes a transaction once that is sent again because its answer was lost
      ClientRequestToken: randomUUID(),
    };
    const doing = `write ${changes.length} items`;
    return this.#call(doing, 'dynamodb:UpdateItem', options, async (client, sdk, sdkOptions) => {
      try {
        await client.send(new sdk.TransactWriteItemsCommand(input), sdkOptions);
        return true;
      } catch (error) {
        if (!(error instanceof sdk.TransactionCanceledException)) throw error;
        const reasons = new Set(error.CancellationReasons?.map(({ Code }) => Code ?? 'None'));
        if (reasons.has('ConditionalCheckFailed') || reasons.has('TransactionConflict')) return false;
        const fault = [...reasons].find(
          (reason) => reason === 'ValidationError' || reason.startsWith('ItemCollection'),
        );
        const why = [...reasons].find((reason) => reason !== 'None') ?? 'no reason';
        const code = fault === undefined ? 'THROTTLED' : 'INVALID';
        throw new Failure(code, `${doing} of table ${this.#options.table}: ${fault ?? why}`, { cause: error });
      }
    });
  }

  #updateOf({ key: { pk, sk }, change, expected }: ItemChange): Sdk.Update & Sdk.UpdateItemCommandInput {
    const expression = new Expressions();
    return {
      TableName: this.#options.table,
      Key: { pk: { S: pk }, sk: { S: sk } },
      UpdateExpression: expression.change(change),
      ConditionExpression: expression.expected(expected),
      ...expression.named,
    };
  }

  async *query(pk: string, options: QueryOptions = {}): AsyncIterable<Item> {
    const { prefix, attributes, descending = false, limit = Infinity } = options;
    const expression = new Expressions();
    const isIn = expression.expected({ pk });
    const input: Sdk.QueryCommandInput = {
      TableName: this.#options.table,
      KeyConditionExpression: prefix === undefined ? isIn : `${isIn} AND ${expression.begins('sk', prefix)}`,
      ProjectionExpression: attributes && expression.names(['pk', 'sk', ...attributes]),
      ...expression.named,
      ScanIndexForward: !descending,
      ConsistentRead: true,
    };
    let left = limit;
    let next: Sdk.QueryCommandInput['ExclusiveStartKey'];
    do {
      const page: Sdk.QueryCommandInput = { ...input, ExclusiveStartKey: next };
      if (left < Infinity) page.Limit = left;
      const answer = await this.#call(`list ${pk}`, 'dynamodb:Query', options, async (client, sdk, sdkOptions) =>
        client.send(new sdk.QueryCommand(page), sdkOptions),
      );
      for (const item of answer.Items ?? []) {
        yield itemOf(item);
        left--;
      }
      next = answer.LastEvaluatedKey;
    } while (next !== undefined && left > 0);
  }

  close(): void {
    if (this.#options.client === undefined) this.#client?.destroy();
  }

  async #call<T>(
    doing: string,
    action: string,
    { signal }: Abortable,
    send: (client: Sdk.DynamoDBClient, sdk: typeof Sdk, sdkOptions: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const { table, clock, report, proxies } = this.#options;
    const agent = { keepAlive: true, maxSockets: MAX_SOCKETS, ...proxiedAgent(proxies) };
    const sdk = await (this.#sdk ??= import('@aws-sdk/client-dynamodb'));
    const client = (this.#client ??= renewingCredentials(
      this.#options.client ??
        new sdk.DynamoDBClient({
          maxAttempts: 1,
          requestHandler: {
            connectionTimeout: CONNECT_TIMEOUT_MS,
            socketTimeout: STALL_TIMEOUT_MS,
            httpAgent: agent,
            httpsAgent: agent,
          },
        }),
    ));
    const what = `${doing} of table ${table}`;
    try {
      return await retry(
        what,
        async () => calling(what, action, { signal }, async (sdkOptions) => send(client, sdk, sdkOptions)),
        {
          attempts: ATTEMPTS,
          maxDelayMs: MAX_DELAY_MS,
          signal,
          clock,
          report,
        },
      );
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND')) throw error;
      const { cause, context } = error;
      const hint = 'check its name, AWS_REGION and the account, or create it';
      throw new Failure('NOT_FOUND', `${what}: there is no such table: ${hint}`, { cause, context });
    }
  }
}

/** Expressions of one request, with placeholders for all names and values: many words are reserved. */
class Expressions {
  readonly #names: Record<string, string> = {};
  readonly #values: Record<string, Sdk.AttributeValue> = {};

  get named(): Pick<Sdk.UpdateItemCommandInput, 'ExpressionAttributeNames' | 'ExpressionAttributeValues'> {
    const hasValues = Object.keys(this.#values).length > 0;
    return {
      ExpressionAttributeNames: this.#names,
      ExpressionAttributeValues: hasValues ? this.#values : undefined,
    };
  }

  change({ set = {}, add = {} }: Change): string {
    const sets: string[] = [];
    const removes: string[] = [];
    for (const [name, value] of Object.entries(set)) {
      if (value === undefined) removes.push(this.#name(name));
      else sets.push(`${this.#name(name)} = ${this.#value(value)}`);
    }
    const adds = Object.entries(add).map(([name, value]) => `${this.#name(name)} ${this.#value(value)}`);
    return [clause('SET', sets), clause('REMOVE', removes), clause('ADD', adds)].join(' ').trim();
  }

  /** Undefined where anything goes. */
  expected(expected: Expected): string | undefined {
    const all = Object.entries(expected).map(([name, wanted]) => {
      const attribute = this.#name(name);
      if (wanted === undefined) return `attribute_not_exists(${attribute})`;
      if (typeof wanted !== 'object') return `${attribute} = ${this.#value(wanted)}`;
      return `${attribute} IN (${wanted.map((value) => this.#value(value)).join(', ')})`;
    });
    return all.length === 0 ? undefined : all.join(' AND ');
  }

  begins(name: string, prefix: string): string {
    return `begins_with(${this.#name(name)}, ${this.#value(prefix)})`;
  }

  names(names: readonly string[]): string {
    return names.map((name) => this.#name(name)).join(', ');
  }

  #name(name: string): string {
    this.#names[`#${name}`] = name;
    return `#${name}`;
  }

  #value(value: Value): string {
    const placeholder = `:v${Object.keys(this.#values).length}`;
    this.#values[placeholder] = attributeOf(value);
    return placeholder;
  }
}

/** One string for a key. No key of this program has a NUL. */
function nameOf({ pk, sk }: Key): string {
  return `${pk}\0${sk}`;
}

function clause(word: string, parts: readonly string[]): string {
  return parts.length === 0 ? '' : `${word} ${parts.join(', ')}`;
}

function attributeOf(value: Value): Sdk.AttributeValue {
  if (typeof value === 'string') return { S: value };
  return typeof value === 'number' ? { N: String(value) } : { BOOL: value };
}

/** The item of these attributes. Values of types that this program does not write are left out. */
function itemOf(attributes: Readonly<Record<string, Sdk.AttributeValue>>): Item {
  const values: Record<string, Value> = {};
  for (const [name, { S, N, BOOL }] of Object.entries(attributes)) {
    const value = S ?? BOOL ?? (N === undefined ? undefined : Number(N));
    if (value !== undefined) values[name] = value;
  }
  const { pk, sk } = values;
  if (typeof pk !== 'string' || typeof sk !== 'string')
    throw new Failure('CORRUPT', 'read an item of the table: its keys pk and sk are not strings');
  return { ...values, pk, sk };
}
