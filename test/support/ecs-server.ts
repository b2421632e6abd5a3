// One service of ECS on loopback: how many tasks it has, and on which capacity.
import { z } from 'zod';
import { Faults } from '../../local/faults.ts';
import { CallRefusal, openFront, unknownAction } from '../../local/http/json-front.ts';

const update = z.strictObject({
  cluster: z.string(),
  service: z.string(),
  desiredCount: z.int().min(0),
  capacityProviderStrategy: z
    .array(z.strictObject({ capacityProvider: z.string(), weight: z.int(), base: z.int() }))
    .optional(),
  forceNewDeployment: z.boolean().optional(),
});

/** A running ECS with one service, which starts tasks on request. */
export interface EcsServer extends AsyncDisposable {
  readonly url: string;
  readonly serviceArn: string;
  readonly faults: Faults;
  /** The current state of the service. */
  readonly service: { desiredCount: number; capacityProviderStrategy: object[] };
  /** The actions that were called, in order. */
  readonly calls: () => readonly string[];
}

export async function startEcs(desiredCount = 0): Promise<EcsServer> {
  const faults = new Faults();
  const service = {
    desiredCount,
    capacityProviderStrategy: [{ capacityProvider: 'FARGATE_SPOT', weight: 1, base: 0 } as object],
  };
  const front = await openFront({
    name: 'ECS',
    target: 'AmazonEC2ContainerServiceV20141113',
    namespace: 'com.amazonaws.ecs.v20141113',
    faults,
    throttled: { status: 400, code: 'ThrottlingException' },
    answer: async ({ action, input }) => {
      if (action === 'DescribeServices') {
        const isKnown = JSON.stringify(input['services']) === '["workers"]' && input['cluster'] === 'transship';
        const described = { ...service, status: 'ACTIVE', runningCount: service.desiredCount, pendingCount: 0 };
        return { body: { services: isKnown ? [described] : [], failures: [] } };
      }
      if (action !== 'UpdateService') throw unknownAction(action);
      const { desiredCount: tasks, capacityProviderStrategy, forceNewDeployment } = update.parse(input);
      if (capacityProviderStrategy !== undefined && forceNewDeployment !== true)
        throw new CallRefusal(400, 'InvalidParameterException', 'a capacity provider strategy needs a new deployment');
      service.desiredCount = tasks;
      if (capacityProviderStrategy !== undefined) service.capacityProviderStrategy = capacityProviderStrategy;
      return { body: { service } };
    },
  });
  return {
    url: front.url,
    serviceArn: 'arn:aws:ecs:eu-west-1:111111111111:service/transship/workers',
    faults,
    service,
    calls: () => front.calls.map(({ action }) => action),
    [Symbol.asyncDispose]: async () => front.close(),
  };
}
