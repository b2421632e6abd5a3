import { z } from 'zod';
import { isFailure } from '../util/failure.ts';
import { suggest } from '../util/suggest.ts';
import { quote } from '../util/text.ts';

/** A string that `read` accepts. The message of its INVALID, which names what was given and expected, becomes the fault. */
export function textOf(read: (text: string) => unknown, description: string): z.ZodString {
  return z
    .string()
    .check((ctx) => {
      const message = refusal(() => read(ctx.value));
      if (message !== undefined) ctx.issues.push({ code: 'custom', message, input: ctx.value });
    })
    .describe(description);
}

/** Why `read` refuses, as the message of its INVALID. Undefined where it does not. */
export function refusal(read: () => unknown): string | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    if (isFailure(error, 'INVALID')) return error.message;
    throw error;
  }
}

/** One value, or a list of at least one. `most`: the most that a list may have. */
export function someOf<T extends z.ZodType<string, string>>(one: T, options: { readonly most?: number } = {}) {
  const list = z.array(one).min(1);
  return z
    .union([one, options.most === undefined ? list : list.max(options.most)], {
      error: 'a string, or a list of strings',
    })
    .transform((value): readonly string[] => (typeof value === 'string' ? [value] : value));
}

/**
 * A mapping with these keys alone. The fault of an unknown key names the one that was probably meant. What `.meta` adds is for the JSON Schema
 * only: reading a file reports the same in better words.
 */
export function mapping<S extends z.core.$ZodShape>(shape: S) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return undefined;
      return issue.keys
        .map((key) => {
          const meant = suggest(key, known);
          const hint = meant === undefined ? `expected ${known.join(', ')}` : `did you mean ${quote(meant)}?`;
          return `there is no ${quote(key)} here; ${hint}`;
        })
        .join('\n');
    },
  });
}

/** The same object without members that are undefined. */
export function withoutAbsent<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as Partial<T>;
}
