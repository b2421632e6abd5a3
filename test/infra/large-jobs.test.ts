// Large workers: a second size, with a queue of its own, where the settings have `largeJobs`.
import { Match, Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { readSettings } from '../../worker/main/settings.ts';
import { findings, refused, textOf, transship } from './templates.ts';

const LARGE = 'largeJobs: { aboveGiB: 5, maxTasks: 3 }';

function resourcesOf(template: Template, type: string): ReadonlyMap<string, Record<string, never>> {
  const found = Object.entries(template.findResources(type)).map(
    ([id, { Properties }]) => [id.replace(/[0-9A-F]{8}$/, ''), Properties] as const,
  );
  return new Map(found);
}

describe('the setting largeJobs', () => {
  const stack = transship(LARGE);
  const template = Template.fromStack(stack);
  const tasks = resourcesOf(template, 'AWS::ECS::TaskDefinition');
  const [container] = Object(tasks.get('LargeWorkersTask'))['ContainerDefinitions'];

  test('adds tasks of four vCPU, 16 GiB and 200 GiB of disk, which do large jobs only, in the role of the others', () => {
    expect(tasks.get('LargeWorkersTask')).toMatchObject({
      Family: 'transship-large-worker',
      Cpu: '4096',
      Memory: '16384',
      EphemeralStorage: { SizeInGiB: 200 },
      TaskRoleArn: { 'Fn::GetAtt': [expect.stringMatching(/^WorkersRole/), 'Arn'] },
    });
    expect(container.Command).toEqual(['worker', '--large']);
    expect(tasks.get('WorkersTask')).not.toHaveProperty('EphemeralStorage');
    expect(Object(tasks.get('WorkersTask'))['ContainerDefinitions'][0]).not.toHaveProperty('Command');
  });

  test('gives every process the queue of large jobs, by variables that the worker reads', () => {
    const environment = new Map<string, string>(
      container.Environment.map(({ Name, Value }: Record<string, unknown>) => [Name, textOf(Value)]),
    );
    const planner = Object(resourcesOf(template, 'AWS::Lambda::Function').get('PlannerFunction'));
    for (const [name, value] of [
      ['TRANSSHIP_LARGE_QUEUE_URL', '<QueuesLargeJobs>'],
      ['TRANSSHIP_LARGE_ABOVE_GIB', '5'],
    ] as const) {
      expect(environment.get(name)).toBe(value);
      expect(textOf(planner.Environment.Variables[name])).toBe(value);
    }
    expect(textOf(planner.Environment.Variables.TRANSSHIP_LARGE_SERVICE)).toBe('<LargeWorkersService>');
    const read = readSettings({ TRANSSHIP_LARGE_QUEUE_URL: 'https://sqs/1/large', TRANSSHIP_LARGE_ABOVE_GIB: '5' });
    expect(read).toMatchObject({ largeQueueUrl: 'https://sqs/1/large', largeAboveBytes: 5 * 1024 ** 3 });
  });

  test('scales large workers by their own queue, from none up to their own number', () => {
    template.resourcePropertiesCountIs('AWS::ApplicationAutoScaling::ScalableTarget', { MaxCapacity: 3 }, 1);
    const alarm = JSON.stringify(resourcesOf(template, 'AWS::CloudWatch::Alarm').get('LargeWorkersWorkToDo'));
    expect(alarm).toContain('SUM([FILL(visible, 0), FILL(inFlight, 0)])');
    expect(alarm).toMatch(/QueuesLargeJobs/);
    expect(alarm).not.toMatch(/QueuesJobs|QueuesRequests/);
    expect(JSON.stringify(resourcesOf(template, 'AWS::CloudWatch::Alarm').get('WorkersWorkToDo'))).not.toMatch(/Large/);
  });

  test('sends what crashes every large worker to the same dead letters', () => {
    const queue = Object(resourcesOf(template, 'AWS::SQS::Queue').get('QueuesLargeJobs'));
    expect(textOf(queue.RedrivePolicy.deadLetterTargetArn)).toBe('<QueuesDeadLetters.Arn>');
  });

  test('has an alarm, graphs, and commands that start large workers in a disaster', () => {
    template.hasResourceProperties('AWS::CloudWatch::Alarm', {
      AlarmName: 'transship-large-workers-that-cannot-start',
      AlarmDescription: Match.stringLikeRegexp('docs/runbook.md#large-workers-that-cannot-start$'),
    });
    expect(JSON.stringify(template.findResources('AWS::CloudWatch::Dashboard'))).toContain('Queue of large jobs');
    const valueOf = (name: string): string => textOf(template.findOutputs(name)[name]?.['Value']);
    expect(valueOf('StartLargeNow')).toBe('npx transship scale 2 --large');
    expect(valueOf('NormalLargeCapacity')).toBe('npx transship scale --large --capacity FARGATE=1');
    expect(valueOf('Check1Environment')).toContain(
      'TRANSSHIP_LARGE_ABOVE_GIB=5 TRANSSHIP_ALLOW=111111111111,s3://<StorageBucket> TRANSSHIP_SERVICE=<WorkersService> TRANSSHIP_LARGE_SERVICE=<LargeWorkersService>',
    );
  });

  test('leaves cdk-nag nothing to find', () => {
    expect(findings(stack)).toEqual([]);
  });
});

test('without largeJobs nothing of it is deployed', () => {
  expect(/LargeWorkers|LargeJobs|TRANSSHIP_LARGE/.exec(JSON.stringify(Template.fromStack(transship()).toJSON()))).toBe(
    null,
  );
});

test.each([
  ['largeJobs: { cpu: 512, memoryMiB: 1024 }', 'largeJobs.cpu 512: large workers are smaller than those of worker'],
  ['largeJobs: { memoryMiB: 16385 }', 'largeJobs.memoryMiB 16385: Fargate does not offer'],
  ['largeJobs: { onDemandWeight: 0 }', 'largeJobs.spotWeight: set onDemandWeight or spotWeight'],
  ['largeJobs: { diskGiB: 201 }', 'largeJobs.diskGiB 201'],
  ['largeJobs: { diskGiB: 20 }', 'largeJobs.diskGiB 20'],
  ['largeJobs: { aboveGiB: 0 }', 'largeJobs.aboveGiB 0'],
])('%s is refused', (settings, why) => {
  expect(refused(settings)).toEqual([expect.stringContaining(why)]);
});
