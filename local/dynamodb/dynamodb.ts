import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Pool } from 'undici';
import { systemClock, type Clock } from '../../worker/util/clock.ts';
import { Limit } from '../../worker/util/limit.ts';
import { isRecord } from '../../worker/util/record.ts';
import { Faults } from '../faults.ts';
import { listen } from '../http/listen.ts';
import {
  CallRefusal,
  openFront,
  unknownAction,
  type Call,
  type CallAnswer,
  type CallRecord,
} from '../http/json-front.ts';

export interface DynamoDbOptions {
  /** Where everything is kept; made when it is not there. One server at a time. Default: in memory. */
  readonly folder?: string;
  /** On 127.0.0.1. Default 0: one that is free. */
  readonly port?: number | undefined;
  /** Default us-east-1. */
  readonly region?: string;
  /** The account that owns everything. Default 000000000000. */
  readonly account?: string;
  /** Tables that are created if they do not exist. Default: none. */
  readonly tables?: readonly TableSetup[];
  /** What `sweep` goes by. */
  readonly clock?: Clock;
  readonly faults?: Faults;
}

interface TableSetup {
  readonly name: string;
  /** An attribute that is a string. */
  readonly hashKey: string;
  /** An attribute that is a string. Default none. */
  readonly rangeKey?: string;
  readonly ttlAttribute?: string;
}

/** DynamoDB tables in this process, until they are closed. Signatures are not checked; reads and indexes are always up to date. */
export interface LocalDynamoDb extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly endpoint: string;
  /** What goes wrong with calls. */
  readonly faults: Faults;
  /** In the order they came; of the newest 10,000. */
  readonly calls: readonly CallRecord[];
  /** Deletes what has expired, as DynamoDB does within days: until this is called, expired items are there. Resolves to how many were deleted. */
  sweep(): Promise<number>;
  close(): Promise<void>;
}

type Fields = Readonly<Record<string, unknown>>;

const PASSED_ON = new Set([
  'BatchGetItem',
  'GetItem',
  'ListTables',
  'ListTagsOfResource',
  'Query',
  'Scan',
  'TagResource',
  'UntagResource',
]);
const WRITES_AT_ONCE = 64;
/** https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html */
const MAX_TRANSACTED = 100;

/**
 * dynalite behind a front that adds the item to a failed condition when it is asked for, expiry, deletion protection, and
 * transactions of updates. Other transactions, streams and PartiQL are refused with 501, as is all else that dynalite does not know.
 */
export async function startDynamoDb(options: DynamoDbOptions = {}): Promise<LocalDynamoDb> {
  await using starting = new AsyncDisposableStack();
  const { region = 'us-east-1', account = '000000000000', clock = systemClock, faults = new Faults() } = options;
  const dynalite = starting.use(await startDynalite(options.folder));
  const settings = await openSettings(options.folder);
  const arn = `arn:aws:dynamodb:${region}:${account}:table/`;
  const tables = new DynamoDb(dynalite, settings, arn, clock);
  for (const table of options.tables ?? []) await tables.make(table);
  const front = await openFront({
    name: 'DynamoDB',
    port: options.port,
    target: 'DynamoDB_20120810',
    namespace: 'com.amazonaws.dynamodb.v20120810',
    faults,
    throttled: { status: 400, code: 'ProvisionedThroughputExceededException' },
    answer: (call) => tables.answer(call),
  });
  starting.defer(() => front.close());
  const running = starting.move();
  return {
    endpoint: front.url,
    faults,
    calls: front.calls,
    sweep: () => tables.sweep(),
    close: () => running.disposeAsync(),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

interface Dynalite extends AsyncDisposable {
  /** The text of its answer; throws the CallRefusal that it answers with. */
  call(action: string, input: string | Fields): Promise<string>;
}

async function startDynalite(folder: string | undefined): Promise<Dynalite> {
  // loading takes a tenth of a second, so it happens only when the server is started
  const { default: dynalite } = await import('dynalite');
  if (folder !== undefined) await mkdir(folder, { recursive: true });
  const path = folder === undefined ? {} : { path: join(folder, 'items') };
  const server = dynalite({ ...path, createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 });
  const { url } = await listen(server, { name: 'dynalite' });
  const pool = new Pool(url);
  return {
    call: async (action, input) => {
      const answer = await pool.request({
        method: 'POST',
        path: '/',
        headers: {
          'content-type': 'application/x-amz-json-1.0',
          'x-amz-target': `DynamoDB_20120810.${action}`,
          'x-amz-date': '20260101T000000Z',
          // dynalite requires it, and does not check it
          authorization: 'AWS4-HMAC-SHA256 Credential=local, SignedHeaders=host, Signature=0',
        },
        body: typeof input === 'string' ? input : JSON.stringify(input),
      });
      const text = await answer.body.text();
      if (answer.statusCode === 200) return text;
      const { __type: type, message, Message: capital, ...more } = parse(text);
      const code = String(type).replace(/^.*#/, '');
      throw new CallRefusal(
        answer.statusCode,
        code,
        [message, capital].find((it) => typeof it === 'string') ?? '',
        more,
      );
    },
    [Symbol.asyncDispose]: async () => {
      await pool.close();
      await new Promise<void>((resolve, reject) => server.close((error) => (error ? reject(error) : resolve())));
    },
  };
}

/** The parts of a table that dynalite does not store. */
interface TableSettings {
  readonly ttlAttribute?: string;
  readonly isProtected?: boolean;
}

interface Settings {
  get(table: string): TableSettings;
  set(table: string, settings: TableSettings): Promise<void>;
  readonly tables: Iterable<string>;
}

async function openSettings(folder: string | undefined): Promise<Settings> {
  const path = folder === undefined ? undefined : join(folder, 'tables.json');
  const text = path !== undefined && existsSync(path) ? await readFile(path, 'utf8') : '{}';
  const kept = new Map(Object.entries(JSON.parse(text) as Record<string, TableSettings>));
  return {
    get: (table) => kept.get(table) ?? {},
    set: async (table, settings) => {
      kept.set(table, settings);
      if (path === undefined) return;
      await writeFile(`${path}.new`, JSON.stringify(Object.fromEntries(kept)));
      await rename(`${path}.new`, path);
    },
    get tables() {
      return kept.keys();
    },
  };
}

class DynamoDb {
  readonly #dynalite: Dynalite;
  readonly #settings: Settings;
  readonly #arn: string;
  readonly #clock: Clock;
  /** Writes share it. A caller that takes all of it is alone. */
  readonly #writing = new Limit(WRITES_AT_ONCE);
  /** The tokens of transactions that were made. A transaction with one of them is not made again. */
  readonly #transacted = new Set<string>();

  constructor(dynalite: Dynalite, settings: Settings, arn: string, clock: Clock) {
    this.#dynalite = dynalite;
    this.#settings = settings;
    this.#arn = arn;
    this.#clock = clock;
  }

  async make({ name, hashKey, rangeKey, ttlAttribute }: TableSetup): Promise<void> {
    const { TableNames } = await this.#ask('ListTables', {});
    if (Array.isArray(TableNames) && TableNames.includes(name)) return;
    const keys = [hashKey, ...(rangeKey === undefined ? [] : [rangeKey])];
    await this.#write('CreateTable', {
      TableName: name,
      BillingMode: 'PAY_PER_REQUEST',
      AttributeDefinitions: keys.map((AttributeName) => ({ AttributeName, AttributeType: 'S' })),
      KeySchema: keys.map((AttributeName, index) => ({ AttributeName, KeyType: index === 0 ? 'HASH' : 'RANGE' })),
    });
    await this.#settings.set(name, ttlAttribute === undefined ? {} : { ttlAttribute });
    // until then reads and writes of items find no table, which under load lasts longer than a start
    while (recordOf((await this.#ask('DescribeTable', { TableName: name }))['Table'])['TableStatus'] !== 'ACTIVE');
  }

  async answer({ action, input, text }: Call): Promise<CallAnswer> {
    if (PASSED_ON.has(action)) return { body: await this.#dynalite.call(action, text) };
    const TableName = input['TableName'];
    const settings = this.#settings.get(String(TableName));
    switch (action) {
      case 'PutItem':
      case 'UpdateItem':
      case 'DeleteItem':
        return { body: await this.#writeItem(action, input, text) };
      case 'BatchWriteItem':
        return { body: await this.#write(action, text) };
      case 'TransactWriteItems':
        return { body: await this.#transact(input) };
      case 'DescribeTable':
        return { body: this.#described('Table', await this.#ask(action, input)) };
      case 'CreateTable': {
        if (recordOf(input['StreamSpecification'])['StreamEnabled'] === true)
          throw unknownAction('streams of DynamoDB');
        const made = parse(await this.#write(action, text));
        await this.#settings.set(String(TableName), { isProtected: input['DeletionProtectionEnabled'] === true });
        return { body: this.#described('TableDescription', made) };
      }
      case 'UpdateTable':
        return { body: await this.#updateTable(input) };
      case 'DeleteTable': {
        if (settings.isProtected === true) {
          const why = 'Resource cannot be deleted as it is currently protected against deletion';
          throw invalid(`${why}. Disable deletion protection first.`);
        }
        const deleted = parse(await this.#write(action, text));
        await this.#settings.set(String(TableName), {});
        return { body: this.#described('TableDescription', deleted) };
      }
      case 'DescribeTimeToLive':
        await this.#ask('DescribeTable', { TableName });
        return { body: { TimeToLiveDescription: describeTtl(settings) } };
      case 'UpdateTimeToLive':
        return { body: await this.#updateTtl(input) };
      default:
        throw unknownAction(`${action} of DynamoDB`);
    }
  }

  async sweep(): Promise<number> {
    let swept = 0;
    for (const TableName of this.#settings.tables) {
      const { ttlAttribute } = this.#settings.get(TableName);
      if (ttlAttribute === undefined) continue;
      const expired = {
        TableName,
        ExpressionAttributeNames: { '#ttl': ttlAttribute },
        ExpressionAttributeValues: { ':now': { N: String(Math.floor(this.#clock.now() / 1000)) } },
      };
      let ExclusiveStartKey: unknown;
      do {
        const page = await this.#ask('Scan', { ...expired, FilterExpression: '#ttl < :now', ExclusiveStartKey });
        for (const item of Array.isArray(page['Items']) ? page['Items'].map(recordOf) : []) {
          const Key = await this.#keyOf(TableName, item);
          // another write may have replaced it since
          const deleted = this.#write('DeleteItem', { ...expired, Key, ConditionExpression: '#ttl < :now' });
          swept += await deleted.then(() => 1, unlessConditionFailed);
        }
        ExclusiveStartKey = page['LastEvaluatedKey'];
      } while (ExclusiveStartKey !== undefined);
    }
    return swept;
  }

  async #ask(action: string, input: Fields): Promise<Fields> {
    return parse(await this.#dynalite.call(action, input));
  }

  async #write(action: string, input: string | Fields): Promise<string> {
    const done = await this.#writing.take();
    try {
      return await this.#dynalite.call(action, input);
    } finally {
      done();
    }
  }

  async #writeItem(action: string, input: Fields, text: string): Promise<string> {
    const isAsked = input['ReturnValuesOnConditionCheckFailure'] === 'ALL_OLD';
    try {
      return await this.#write(action, text);
    } catch (error) {
      if (!isAsked || !isConditionFailed(error)) throw error;
    }
    // it had no effect, so it may be done again: alone, for the item must be the one that the condition failed on
    const done = await this.#writing.take(WRITES_AT_ONCE);
    try {
      return await this.#dynalite.call(action, text);
    } catch (error) {
      if (!isConditionFailed(error)) throw error;
      const TableName = String(input['TableName']);
      const Key = input['Key'] ?? (await this.#keyOf(TableName, recordOf(input['Item'])));
      const { Item } = await this.#ask('GetItem', { TableName, Key, ConsistentRead: true });
      throw new CallRefusal(error.status, error.code, error.message, Item === undefined ? {} : { Item });
    } finally {
      done();
    }
  }

  /** Makes one change after the other, while nothing else is written, and undoes them where a condition fails. Reads may see a part of them. */
  async #transact({ TransactItems, ClientRequestToken: token }: Fields): Promise<Fields> {
    const changes = Array.isArray(TransactItems) ? TransactItems.map((one) => recordOf(recordOf(one)['Update'])) : [];
    if (changes.length === 0 || changes.length > MAX_TRANSACTED)
      throw invalid(`Member must have length less than or equal to ${MAX_TRANSACTED}`);
    if (changes.some((change) => Object.keys(change).length === 0))
      throw unknownAction('transactions of DynamoDB with more than updates');
    if (new Set(changes.map(({ TableName, Key }) => JSON.stringify([TableName, Key]))).size < changes.length)
      throw invalid('Transaction request cannot include multiple operations on one item');
    const done = await this.#writing.take(WRITES_AT_ONCE);
    try {
      if (typeof token === 'string' && this.#transacted.has(token)) return {};
      const undo: (() => Promise<unknown>)[] = [];
      for (const [index, change] of changes.entries()) {
        const { TableName, Key } = change;
        const { Item } = await this.#ask('GetItem', { TableName, Key, ConsistentRead: true });
        try {
          await this.#ask('UpdateItem', change);
        } catch (error) {
          for (const step of undo.toReversed()) await step();
          throw isConditionFailed(error) ? cancelled(changes.length, index) : error;
        }
        undo.push(async () =>
          Item === undefined ? this.#ask('DeleteItem', { TableName, Key }) : this.#ask('PutItem', { TableName, Item }),
        );
      }
      if (typeof token === 'string') this.#transacted.add(token);
      return {};
    } finally {
      done();
    }
  }

  async #keyOf(TableName: string, item: Fields): Promise<Fields> {
    const { Table } = await this.#ask('DescribeTable', { TableName });
    const schema = recordOf(Table)['KeySchema'];
    const names = Array.isArray(schema) ? schema.map((key) => String(recordOf(key)['AttributeName'])) : [];
    return Object.fromEntries(names.map((name) => [name, item[name]]));
  }

  async #updateTable({ DeletionProtectionEnabled, ...others }: Fields): Promise<Fields> {
    const { TableName } = others;
    const isAll = Object.keys(others).length === 1;
    const updated = isAll ? await this.#ask('DescribeTable', others) : parse(await this.#write('UpdateTable', others));
    if (typeof DeletionProtectionEnabled === 'boolean') {
      const name = String(TableName);
      await this.#settings.set(name, { ...this.#settings.get(name), isProtected: DeletionProtectionEnabled });
    }
    return this.#described('TableDescription', isAll ? { TableDescription: updated['Table'] } : updated);
  }

  async #updateTtl({ TableName, TimeToLiveSpecification }: Fields): Promise<Fields> {
    const name = String(TableName);
    await this.#ask('DescribeTable', { TableName });
    const { AttributeName, Enabled } = recordOf(TimeToLiveSpecification);
    const { ttlAttribute, ...others } = this.#settings.get(name);
    if (typeof AttributeName !== 'string' || typeof Enabled !== 'boolean')
      throw invalid('TimeToLiveSpecification is wrong');
    if (Enabled === (ttlAttribute !== undefined))
      throw invalid(`TimeToLive is already ${Enabled ? 'enabled' : 'disabled'}`);
    await this.#settings.set(name, Enabled ? { ...others, ttlAttribute: AttributeName } : others);
    return { TimeToLiveSpecification };
  }

  /** The description of a table as that of this region and account, with what dynalite does not know of it. */
  #described(member: 'Table' | 'TableDescription', answer: Fields): Fields {
    const table = recordOf(answer[member]);
    const name = String(table['TableName']);
    const DeletionProtectionEnabled = this.#settings.get(name).isProtected ?? false;
    return { ...answer, [member]: { ...table, TableArn: `${this.#arn}${name}`, DeletionProtectionEnabled } };
  }
}

function describeTtl({ ttlAttribute }: TableSettings): Fields {
  return ttlAttribute === undefined
    ? { TimeToLiveStatus: 'DISABLED' }
    : { TimeToLiveStatus: 'ENABLED', AttributeName: ttlAttribute };
}

/** The refusal of a transaction of `count` changes, where the condition of the change at `failed` did not hold. */
function cancelled(count: number, failed: number): CallRefusal {
  const code = (index: number): string => (index === failed ? 'ConditionalCheckFailed' : 'None');
  const codes = Array.from({ length: count }, (_, index) => code(index));
  return new CallRefusal(
    400,
    'TransactionCanceledException',
    `Transaction cancelled, please refer cancellation reasons for specific reasons [${codes.join(', ')}]`,
    { CancellationReasons: codes.map((Code) => ({ Code })) },
  );
}

function isConditionFailed(error: unknown): error is CallRefusal {
  return error instanceof CallRefusal && error.code === 'ConditionalCheckFailedException';
}

function unlessConditionFailed(error: unknown): 0 {
  if (isConditionFailed(error)) return 0;
  throw error;
}

function invalid(message: string): CallRefusal {
  return new CallRefusal(400, 'ValidationException', message);
}

function parse(text: string): Fields {
  return recordOf(JSON.parse(text));
}

function recordOf(value: unknown): Fields {
  return isRecord(value) ? value : {};
}
