// As much of JSON Schema (draft 7) as ours use: an unknown keyword is an error, and never ignored.
import { isDeepStrictEqual } from 'node:util';
import { isRecord } from '../../worker/util/record.ts';

/** Where `value` does not match `schema`, as `/path: keyword`; empty if it matches. */
export function violations(schema: unknown, value: unknown, path = ''): readonly string[] {
  if (!isRecord(schema)) throw new Error(`${path}: not a schema`);
  return Object.entries(schema).flatMap(([word, said]): readonly string[] => {
    const unless = (holds: boolean): readonly string[] => (holds ? [] : [`${path}: ${word}`]);
    switch (word) {
      case '$schema':
      case 'title':
      case 'description':
      case 'default':
        return [];
      case 'type':
        return unless(said === typeOf(value) || (said === 'number' && typeOf(value) === 'integer'));
      case 'const':
        return unless(isDeepStrictEqual(value, said));
      case 'enum':
        return unless(listOf(said).some((allowed) => isDeepStrictEqual(value, allowed)));
      case 'anyOf':
        return unless(listOf(said).some((one) => violations(one, value).length === 0));
      case 'oneOf':
        return unless(listOf(said).filter((one) => violations(one, value).length === 0).length === 1);
      case 'pattern':
        return unless(typeof value !== 'string' || new RegExp(String(said), 'u').test(value));
      case 'minLength':
        return unless(typeof value !== 'string' || value.length >= Number(said));
      case 'maxLength':
        return unless(typeof value !== 'string' || value.length <= Number(said));
      case 'minimum':
        return unless(typeof value !== 'number' || value >= Number(said));
      case 'exclusiveMinimum':
        return unless(typeof value !== 'number' || value > Number(said));
      case 'maximum':
        return unless(typeof value !== 'number' || value <= Number(said));
      case 'minItems':
        return unless(!Array.isArray(value) || value.length >= Number(said));
      case 'maxItems':
        return unless(!Array.isArray(value) || value.length <= Number(said));
      case 'items':
        return Array.isArray(value) ? value.flatMap((item, index) => violations(said, item, `${path}/${index}`)) : [];
      case 'required':
        return unless(!isRecord(value) || listOf(said).every((key) => Object.hasOwn(value, String(key))));
      case 'dependencies':
        return Object.entries(recordOf(value))
          .flatMap(([key]) => listOf(recordOf(said)[key] ?? []))
          .flatMap((key) => unless(Object.hasOwn(recordOf(value), String(key))));
      case 'propertyNames':
        return Object.keys(recordOf(value)).flatMap((key) => violations(said, key, `${path}/${key}`));
      case 'properties':
        return Object.entries(recordOf(value)).flatMap(([key, inner]) =>
          Object.hasOwn(recordOf(said), key) ? violations(recordOf(said)[key], inner, `${path}/${key}`) : [],
        );
      case 'additionalProperties': {
        const known = recordOf(schema['properties']);
        const others = Object.entries(recordOf(value)).filter(([key]) => !Object.hasOwn(known, key));
        if (said === false) return others.map(([key]) => `${path}/${key}: ${word}`);
        return others.flatMap(([key, inner]) => violations(said, inner, `${path}/${key}`));
      }
      default:
        throw new Error(`${path}: ${word} is not read`);
    }
  });
}

function typeOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return isRecord(value) ? value : {};
}
