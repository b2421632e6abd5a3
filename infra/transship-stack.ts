import { Stack, type StackProps } from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import { Queues } from './queue.ts';
import type { InfraSettings } from './settings.ts';
import { Storage } from './storage.ts';

export interface TransshipStackProps extends StackProps {
  readonly settings: InfraSettings;
}

/** The running system: what it keeps, its queues, the planner, the workers, and what watches over them. */
export class TransshipStack extends Stack {
  constructor(scope: Construct, id: string, props: TransshipStackProps) {
    super(scope, id, props);
    const { settings } = props;
    const storage = new Storage(this, 'Storage', settings);
    new Queues(this, 'Queues', { key: storage.key, repositories: settings.access.repositories });
  }
}
