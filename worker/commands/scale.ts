import { InvalidArgumentError, type Command } from 'commander';
import type { Capacity, TaskCount } from '../tasks/tasks.ts';
import { Failure } from '../util/failure.ts';
import { printResult, withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';

interface ScaleFlags extends CommonFlags {
  readonly onDemand?: boolean;
  readonly capacity?: readonly Capacity[];
  readonly large?: boolean;
}

/** The most tasks that a deployment can be set to: the largest `worker.maxTasks`. */
const MAX_TASKS = 500;
const ON_DEMAND: readonly Capacity[] = [{ provider: 'FARGATE', weight: 1, base: 0 }];

export function addScale(program: Command, context: CommandContext): void {
  const command = program
    .command('scale')
    .summary('show how many workers run, or start more now')
    .description(
      'Without TASKS, shows how many tasks of the workers run and on which capacity. With TASKS, asks ECS for that many now, without waiting for scaling. From then on scaling changes the number as before: it follows the queue, and stops tasks only when they have no job. With --on-demand, all new tasks use on-demand capacity until you return with --capacity: for a restore in a disaster, when a Region may be short of Spot capacity.',
    )
    .argument('[tasks]', 'how many tasks, 1 to 500', parseTasks)
    .option('--on-demand', 'start tasks on demand, and replace Spot tasks as they finish their jobs')
    .option(
      '--capacity <list>',
      'spread tasks by PROVIDER=WEIGHT or PROVIDER=WEIGHT+BASE, such as FARGATE_SPOT=1,FARGATE=0+1: the output `NormalCapacity` has what was deployed',
      parseCapacity,
    );
  command.option('--large', 'the large workers, where the deployment has them');
  withCommonFlags(command).action(async (tasks: number | undefined, flags: ScaleFlags) => {
    if (flags.onDemand === true && flags.capacity !== undefined)
      throw new Failure('INVALID', '--on-demand is itself a capacity: leave out --capacity');
    const capacity = flags.onDemand === true ? ON_DEMAND : flags.capacity;
    await using service = context.connectService();
    const { tasks: workers } = flags.large === true ? (service.large ?? {}) : service;
    if (workers === undefined)
      throw new Failure(
        'INVALID',
        flags.large === true
          ? '--large needs TRANSSHIP_LARGE_QUEUE_URL and TRANSSHIP_LARGE_SERVICE: set them to what the deployment printed; without the setting `largeJobs` it has no large workers'
          : 'this command needs TRANSSHIP_SERVICE: set it to what the deployment printed; workers outside of ECS are started where they run',
      );
    const { signal } = context;
    const before = await workers.count({ signal });
    if (tasks === undefined && capacity === undefined)
      return printResult(context, flags, before, () => describe(workers.name, before));
    const desired = tasks ?? before.desired;
    await workers.scale(desired, { signal, capacity });
    const now = { ...before, desired, capacity: capacity ?? before.capacity };
    printResult(context, flags, now, () => `${describe(workers.name, now)}; a task takes one to two minutes to start`);
  });
}

function parseTasks(value: string): number {
  const tasks = Number(value);
  if (/^\d+$/.test(value) && tasks >= 1 && tasks <= MAX_TASKS) return tasks;
  throw new InvalidArgumentError(`expected a whole number from 1 to ${MAX_TASKS}.`);
}

function parseCapacity(value: string): readonly Capacity[] {
  const capacity = value.split(',').map((part) => {
    const [, provider, weight, base = '0'] = /^(FARGATE|FARGATE_SPOT)=(\d{1,4})(?:\+(\d{1,3}))?$/.exec(part) ?? [];
    if (provider === undefined)
      throw new InvalidArgumentError('expected such as FARGATE_SPOT=1,FARGATE=0+1, of FARGATE and FARGATE_SPOT.');
    return { provider, weight: Number(weight), base: Number(base) };
  });
  // https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CapacityProviderStrategyItem.html
  if (!capacity.some(({ weight }) => weight > 0))
    throw new InvalidArgumentError('expected a weight above 0 for one of them.');
  if (
    capacity.filter(({ base }) => base > 0).length > 1 ||
    new Set(capacity.map((one) => one.provider)).size < capacity.length
  )
    throw new InvalidArgumentError('expected each provider once, and one base at the most.');
  return capacity;
}

function describe(name: string, { desired, running, pending, capacity }: TaskCount): string {
  const on = capacity.map(({ provider, weight, base }) => `${provider}=${weight}${base > 0 ? `+${base}` : ''}`);
  return `${name}: ${desired} wanted, ${running} running, ${pending} starting; capacity ${on.join(',') || 'unknown'}`;
}
