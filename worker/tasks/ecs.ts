import type * as Sdk from '@aws-sdk/client-ecs';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import type { Proxies } from '../util/proxies.ts';
import { renewingCredentials } from '../util/renew-credentials.ts';
import { calling } from '../util/sdk-failure.ts';
import { sdkRequests } from '../util/sdk-requests.ts';
import { quote } from '../util/text.ts';
import type { Capacity, Tasks } from './tasks.ts';

export interface EcsOptions {
  /** The ARN of the ECS service, with its cluster. */
  readonly service: string;
  /** What names it, for failures. Default `TRANSSHIP_SERVICE`. */
  readonly variable?: string | undefined;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

type SdkOptions = Parameters<Parameters<typeof calling>[3]>[0];

/** Makes one call with a client of its own: calls are minutes apart. */
type Call = <T>(
  what: string,
  action: string,
  options: Abortable,
  work: (client: Sdk.ECSClient, sdk: typeof Sdk, sdkOptions: SdkOptions) => Promise<T>,
) => Promise<T>;

/**
 * The tasks of one service of ECS. No request is sent yet; the SDK is loaded with the first call. INVALID for what is not the ARN of a
 * service.
 *
 * IAM actions: ecs:DescribeServices, ecs:UpdateService.
 */
export function openEcs({ service, variable = 'TRANSSHIP_SERVICE', proxies }: EcsOptions): Tasks {
  const [, region, cluster = '', name = ''] =
    /^arn:[^:]+:ecs:([^:]+):\d+:service\/([^/]+)\/([^/]+)$/.exec(service) ?? [];
  if (region === undefined)
    throw new Failure(
      'INVALID',
      `${variable}: ${quote(service)} is not the ARN of an ECS service: expected arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/NAME`,
    );
  const call: Call = async (what, action, options, work) => {
    const sdk = await import('@aws-sdk/client-ecs');
    const client = renewingCredentials(new sdk.ECSClient({ ...sdkRequests(proxies), maxAttempts: 3, region }));
    try {
      return await calling(what, action, options, async (sdkOptions) => work(client, sdk, sdkOptions));
    } finally {
      client.destroy();
    }
  };
  return { name, count: counterOf(cluster, name, call), scale: scalerOf(cluster, name, call) };
}

function counterOf(cluster: string, name: string, call: Call): Tasks['count'] {
  return async (options = {}) => {
    const what = `count the tasks of ${name}`;
    const { services = [] } = await call(what, 'ecs:DescribeServices', options, async (client, sdk, sdkOptions) =>
      client.send(new sdk.DescribeServicesCommand({ cluster, services: [name] }), sdkOptions),
    );
    const [found] = services;
    // ECS still describes a service for a while after it was deleted
    if (found === undefined || found.status === 'INACTIVE')
      throw new Failure('NOT_FOUND', `${what}: the cluster ${cluster} has no such service`);
    const { desiredCount = 0, runningCount = 0, pendingCount = 0, capacityProviderStrategy = [] } = found;
    const capacity = capacityProviderStrategy.map(({ capacityProvider = '', weight = 0, base = 0 }): Capacity => ({
      provider: capacityProvider,
      weight,
      base,
    }));
    return { desired: desiredCount, running: runningCount, pending: pendingCount, capacity };
  };
}

function scalerOf(cluster: string, name: string, call: Call): Tasks['scale'] {
  return async (tasks, { capacity, ...options } = {}) => {
    const capacityProviderStrategy = capacity?.map(({ provider, weight, base }) => ({
      capacityProvider: provider,
      weight,
      base,
    }));
    const input: Sdk.UpdateServiceCommandInput = {
      cluster,
      service: name,
      desiredCount: tasks,
      // ECS takes another strategy only together with a new deployment
      ...(capacityProviderStrategy === undefined ? {} : { capacityProviderStrategy, forceNewDeployment: true }),
    };
    await call(`set the tasks of ${name} to ${tasks}`, 'ecs:UpdateService', options, async (client, sdk, sdkOptions) =>
      client.send(new sdk.UpdateServiceCommand(input), sdkOptions),
    );
  };
}
