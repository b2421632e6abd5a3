import { z } from 'zod';
import { digestOf, isDigest, type Digest } from '../oci/digest.ts';
import { canonicalJson } from '../util/canonical-json.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import type { PrunePlan } from './plan.ts';

/** The longest file of a plan, in bytes. */
const MAX_PLAN_BYTES = 256 * 1024 * 1024;

const count = z.int().nonnegative();
const digest = z.custom<Digest>(isDigest);
const item = z.strictObject({
  id: z.string().min(1),
  tags: z.array(z.string()),
  action: z.enum(['keep', 'delete', 'untag']),
  reason: z.string(),
  bytes: count.optional(),
  etag: z.string().optional(),
  untag: z.array(z.string()).min(1).optional(),
  left: z.literal(true).optional(),
  group: z.string().optional(),
});
const repository = z.strictObject({
  place: z.string().min(1),
  kind: z.enum(['images', 'archives']),
  inventory: digest,
  refused: z.string().optional(),
  items: z.array(item),
});
const plan = z.strictObject({
  format: z.literal(1),
  places: z.array(z.string()),
  createdMs: z.int(),
  policies: digest,
  repositories: z.array(repository),
  totals: z.strictObject({ keep: count, delete: count, untag: count, left: count, bytes: count, refused: count }),
});

/**
 * The file of a plan: JSON, with the sha256 of the plan's canonical form as its checksum. UNSUPPORTED for a plan that would be longer than
 * `MAX_PLAN_BYTES`.
 */
export function formatPlan(value: PrunePlan): string {
  const text = `${JSON.stringify({ ...value, checksum: checksumOf(value) }, null, 2)}\n`;
  if (Buffer.byteLength(text) <= MAX_PLAN_BYTES) return text;
  throw new Failure(
    'UNSUPPORTED',
    `write the plan: it is longer than ${MAX_PLAN_BYTES} bytes: plan fewer places at once`,
  );
}

/**
 * Reads what `formatPlan` wrote. INVALID for what is not a plan, is of another format, was changed after it was written, or is longer than
 * `MAX_PLAN_BYTES`. The checksum finds changes; it does not prove the origin of the file.
 */
export function readPlan(text: string): PrunePlan {
  if (text.length > MAX_PLAN_BYTES || Buffer.byteLength(text) > MAX_PLAN_BYTES)
    throw invalid(`it is longer than ${MAX_PLAN_BYTES} bytes`);
  const value = parseJson(text);
  if (!isRecord(value) || value['format'] === undefined || value['repositories'] === undefined)
    throw invalid('it is not a plan: write one with --plan-out');
  const { checksum, ...rest } = value;
  if (rest['format'] !== 1) throw invalid('this version reads format 1, and the file has another');
  if (checksum !== checksumOf(rest)) throw invalid('it was changed after it was written: make a new plan');
  const read = plan.safeParse(rest);
  if (read.success) return read.data;
  throw invalid(`${read.error.issues[0]?.path.join('.') ?? 'it'} is not as this version writes it`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid('it is not JSON', cause);
  }
}

function checksumOf(value: unknown): Digest {
  try {
    return digestOf(Buffer.from(canonicalJson(value)));
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw invalid('its values are nested too deep', cause);
  }
}

function invalid(why: string, cause?: unknown): Failure {
  return new Failure('INVALID', `read the plan: ${why}`, { cause });
}
