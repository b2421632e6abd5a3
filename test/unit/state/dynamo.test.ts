import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { startDynamoDb } from '../../../worker/local/dynamodb.ts';
import { openDynamo } from '../../../worker/state/dynamo.ts';
import { manualClock } from '../../support/clock.ts';
import { stateSuite } from '../../suites/state.ts';

const TABLE = { name: 'transship', hashKey: 'pk', rangeKey: 'sk', ttlAttribute: 'ttl' };

function clientOf(endpoint: string): DynamoDBClient {
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
  return new DynamoDBClient({ endpoint, region: 'eu-west-1', credentials, maxAttempts: 1 });
}

stateSuite('DynamoDB', async () => {
  const clock = manualClock();
  const server = await startDynamoDb({ tables: [TABLE] });
  const client = clientOf(server.endpoint);
  return {
    clock,
    open: () => openDynamo({ table: TABLE.name, clock, client }),
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      await server.close();
    },
  };
});
