import { isRecord } from '../../worker/util/record.ts';
import { CallRefusal } from '../http/json-front.ts';

/** What a call sends, and what it is answered. */
export type Fields = Readonly<Record<string, unknown>>;

/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html */
const MAX_ATTRIBUTES = 10;
const HANDLE = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What calls on a queue that does not exist are answered. */
export function noQueue(): CallRefusal {
  return new CallRefusal(400, 'QueueDoesNotExist', 'The specified queue does not exist.');
}

export function invalid(message: string): CallRefusal {
  return new CallRefusal(400, 'InvalidParameterValue', message);
}

export function throwIf(refusal: CallRefusal | undefined): void {
  if (refusal !== undefined) throw refusal;
}

export function attributesRefused(entry: Fields): CallRefusal | undefined {
  const count = Object.keys(recordOf(entry['MessageAttributes'])).length;
  return count > MAX_ATTRIBUTES
    ? invalid(`Number of message attributes [${count}] exceeds the allowed maximum [${MAX_ATTRIBUTES}].`)
    : undefined;
}

export function handleRefused(entry: Fields): CallRefusal | undefined {
  const handle = textOf(entry, 'ReceiptHandle');
  return HANDLE.test(handle)
    ? undefined
    : new CallRefusal(
        400,
        'ReceiptHandleIsInvalid',
        `The input receipt handle "${handle}" is not a valid receipt handle.`,
      );
}

/** A message as it is given to a client that asked for it so. */
export function shown(message: Fields, input: Fields): Fields {
  const { MessageAttributeNames } = input;
  if (Array.isArray(MessageAttributeNames) && MessageAttributeNames.length > 0) return message;
  const { MessageAttributes: _, MD5OfMessageAttributes: __, ...rest } = message;
  return rest;
}

export function nameOf(input: Fields): string {
  return urlOf(input).pathname.split('/').at(-1) ?? '';
}

export function urlOf(input: Fields): URL {
  const url = URL.parse(textOf(input, 'QueueUrl'));
  if (url === null) throw noQueue();
  return url;
}

export function swapAccount(arn: unknown, from: string, to: string): string {
  return String(arn).replaceAll(/(arn:aws:sqs:[a-z0-9-]+:)([0-9]{12}):/g, (whole, start: string, account) =>
    account === from ? `${start}${to}:` : whole,
  );
}

export function textOf(input: Fields, name: string): string {
  const value = input[name];
  if (typeof value === 'string') return value;
  throw new CallRefusal(400, 'MissingParameter', `The request must contain the parameter ${name}.`);
}

export function recordOf(value: unknown): Fields {
  return isRecord(value) ? value : {};
}

export function recordsOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

export function parseRecord(text: unknown): Fields {
  try {
    return recordOf(JSON.parse(String(text)));
  } catch {
    return {};
  }
}
