// Values that several groups of the settings share, each with the message about what is allowed.
import { z } from 'zod';

const ACCOUNT_EXPECTED = 'expected the twelve digits of an account, in quotes';
export const accountId = z.string(ACCOUNT_EXPECTED).regex(/^[0-9]{12}$/, ACCOUNT_EXPECTED);
export const regionName = z
  .string()
  .regex(/^[a-z]{2}(?:-[a-z]+)+-[0-9]$/, 'expected the name of a region, such as us-east-1');
export const days = z.int().min(1).max(36_500);
export const keyArn = z
  .string()
  .regex(
    /^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key\/(?:mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/,
    'expected the ARN of a KMS key, by its id and not an alias',
  );
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
export const bucketName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, { error: 'expected the name of a bucket', abort: true })
  .refine(
    (name) =>
      !/\.\.|\.-|-\.|^(?:[0-9]+\.){3}[0-9]+$|^(?:xn--|sthree-|amzn-s3-demo-)|(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$/.test(
        name,
      ),
    'expected a bucket name that S3 accepts: dots between letters or digits, no IP address, no prefix or suffix that S3 reserves',
  );
export const repositoryPattern = z
  .string()
  .regex(/^[a-z0-9*][a-z0-9._/*-]*$/, 'expected the name of a repository, or a pattern such as product/*');
export const repositoryName = z.string().regex(/^[a-z0-9][a-z0-9._/-]*[a-z0-9]$/, 'expected the name of a repository');
export const roleArn = z
  .string()
  .regex(/^arn:aws[a-z-]*:iam::[0-9]{12}:role\/[\w+=,.@/-]+$/, 'expected the ARN of a role');
export const secretArn = z
  .string()
  .regex(
    /^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}$/,
    'expected the ARN of a secret, whole, with the six characters that Secrets Manager adds to its name',
  );

/** A list without duplicates. */
export function eachOnce<T extends z.ZodType>(item: T): z.ZodArray<T> {
  return z.array(item).superRefine((list, context) => {
    list.forEach((one, i) => {
      if (list.indexOf(one) < i) context.addIssue({ code: 'custom', path: [i], message: 'is given twice' });
    });
  });
}
