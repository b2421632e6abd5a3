import { randomUUID } from 'node:crypto';
import type { Answer, Exchange } from '../registry/exchange.ts';
import type { Route } from '../registry/route.ts';

/** Where it happened. */
export interface EventOrigin {
  readonly account: string;
  readonly region: string;
}

/**
 * The event that Amazon EventBridge sends for a push to ECR, as JSON; undefined where `answer` is to anything else.
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html
 */
export function pushEvent(
  exchange: Exchange,
  route: Route,
  answer: Answer,
  options: EventOrigin,
  nowMs: number,
): string | undefined {
  if (route.kind !== 'manifest-put' || answer.status !== 201) return undefined;
  const tag = route.reference.includes(':') ? {} : { 'image-tag': route.reference };
  return JSON.stringify({
    version: '0',
    id: randomUUID(),
    'detail-type': 'ECR Image Action',
    source: 'aws.ecr',
    account: options.account,
    time: new Date(nowMs).toISOString(),
    region: options.region,
    resources: [],
    detail: {
      result: 'SUCCESS',
      'repository-name': route.repository,
      'image-digest': answer.headers?.['docker-content-digest'],
      'action-type': 'PUSH',
      ...tag,
      'manifest-media-type': exchange.headers['content-type'],
    },
  });
}
