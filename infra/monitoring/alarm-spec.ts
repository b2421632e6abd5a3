import { Duration } from 'aws-cdk-lib';
import type { ComparisonOperator, IMetric, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import type { ITable, ITableV2 } from 'aws-cdk-lib/aws-dynamodb';
import type { FargateService } from 'aws-cdk-lib/aws-ecs';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import type { AccountEvents } from './account-events.ts';
import { CLEAN_EVERY_MINUTES } from '../service/cleaner.ts';
import type { InfraSettings } from '../settings/schema.ts';

/** What is watched. */
export interface Watched {
  readonly settings: Pick<InfraSettings, 'alarms' | 'bucket' | 'planEveryMinutes' | 'vault'>;
  readonly jobs: IQueue;
  readonly requests: IQueue;
  readonly deadLetters: IQueue;
  readonly undelivered: IQueue;
  readonly table: ITable | ITableV2;
  readonly planner: IFunction;
  /** Undefined where the settings have no `prune`. */
  readonly cleaner: IFunction | undefined;
  readonly service: FargateService;
  /** The large workers and their queue. Undefined where the settings have no `largeJobs`. */
  readonly large: { readonly queue: IQueue; readonly service: FargateService } | undefined;
  readonly bucket: IBucket;
  readonly events: AccountEvents;
  /** Where planners and workers log what they list. */
  readonly logs: readonly ILogGroup[];
}

export interface AlarmSpec {
  /** The anchor of a chapter in docs/runbook.md. It is part of the alarm's name. */
  readonly chapter: string;
  /** `high`: backups are missing, or will be. `medium`: act within days. `low`: good to know. */
  readonly severity: 'high' | 'medium' | 'low';
  readonly text: string;
  readonly metric: IMetric;
  readonly threshold: number;
  /** @default at the threshold or above */
  readonly comparison?: ComparisonOperator;
  /** @default 1 */
  readonly periods?: number;
  /** How many of the periods must breach. @default all of them */
  readonly datapoints?: number;
  readonly missing: TreatMissingData;
}

export const FIVE_MINUTES = Duration.minutes(5);
export const HOUR = Duration.hours(1);
export const DAY = Duration.days(1);
/** The time between two calls of the Cleaner. */
export const CLEAN = Duration.minutes(CLEAN_EVERY_MINUTES);
