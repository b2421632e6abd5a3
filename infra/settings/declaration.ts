import { z } from 'zod';
import { settingsSchema } from './schema.ts';

const schema = z.object({
  type: z.union([z.string(), z.array(z.string())]).optional(),
  const: z.unknown().optional(),
  enum: z.array(z.unknown()).optional(),
  anyOf: z.array(z.unknown()).optional(),
  oneOf: z.array(z.unknown()).optional(),
  items: z.unknown().optional(),
  properties: z.record(z.string(), z.unknown()).optional(),
  additionalProperties: z.unknown().optional(),
  required: z.array(z.string()).default([]),
});

/** The declarations of infra/index.ts, without the types of the schema, which an installed package does not contain. */
export function declaration(): string {
  const json: unknown = z.toJSONSchema(settingsSchema, { io: 'input', unrepresentable: 'any' });
  const { properties = {} } = schema.parse(json);
  const { account: _account, region: _region, version: _version, ...settings } = properties;
  return `import type { Stack, StackProps } from 'aws-cdk-lib';
import type { Construct } from 'constructs';

/** As in transship.infra.yaml: docs/deployment.md describes every setting. */
export interface TransshipSettings ${typeOf({ properties: settings })}

export interface TransshipProps extends StackProps {
  /** \`worker.image\` is required. Account and Region are those of \`env\`. */
  readonly settings: TransshipSettings;
}

/** The running system of Transship, as a stack of an app of yours. */
export declare class Transship extends Stack {
  /** Throws for settings that cannot be used, with one line for each error. */
  constructor(scope: Construct, id: string, props: TransshipProps);
}
`;
}

/** The TypeScript type of the values that a JSON schema accepts. */
function typeOf(node: unknown): string {
  const some = schema.parse(node);
  const variants = some.anyOf ?? some.oneOf;
  if (variants !== undefined) return [...new Set(variants.map(typeOf))].join(' | ');
  if (some.const !== undefined) return JSON.stringify(some.const);
  if (some.enum !== undefined) return some.enum.map((one) => JSON.stringify(one)).join(' | ');
  if (some.items !== undefined) return `readonly (${typeOf(some.items)})[]`;
  if (some.properties !== undefined)
    return `{ ${Object.entries(some.properties)
      .map(
        ([name, member]) =>
          `readonly ${name}${some.required.includes(name) ? '' : '?'}: ${typeOf(member)}${some.required.includes(name) ? '' : ' | undefined'};`,
      )
      .join(' ')} }`;
  if (some.type === 'object') return `Readonly<Record<string, ${typeOf(some.additionalProperties ?? {})}>>`;
  if (some.type === 'integer') return 'number';
  return typeof some.type === 'string' ? some.type : 'unknown';
}
