// What CloudFormation makes of a template and the values of its parameters, as far as the templates here need it.
import { z } from 'zod';

const parameter = z.object({
  Type: z.enum(['String', 'Number', 'CommaDelimitedList']),
  Description: z.string(),
  Default: z.union([z.string(), z.number()]).optional(),
  AllowedPattern: z.string().optional(),
  AllowedValues: z.array(z.union([z.string(), z.number()])).optional(),
  MinValue: z.number().optional(),
  MaxValue: z.number().optional(),
  MaxLength: z.number().optional(),
});
export type Parameter = z.infer<typeof parameter>;

const resource = z.looseObject({
  Type: z.string(),
  Condition: z.string().optional(),
  Properties: z.unknown().optional(),
});
export const template = z.object({
  Parameters: z.record(z.string(), parameter),
  Rules: z
    .record(
      z.string(),
      z.strictObject({
        RuleCondition: z.unknown(),
        Assertions: z.array(z.strictObject({ Assert: z.unknown(), AssertDescription: z.string() })),
      }),
    )
    .default({}),
  Conditions: z.record(z.string(), z.unknown()).default({}),
  Mappings: z.record(z.string(), z.record(z.string(), z.record(z.string(), z.unknown()))).default({}),
  Resources: z.record(z.string(), resource),
  Outputs: z.record(z.string(), z.looseObject({ Value: z.unknown(), Condition: z.string().optional() })).default({}),
});
export type Template = z.infer<typeof template>;

/** Whether CloudFormation accepts the value. A pattern is for the whole value, and for each item of a list. */
export function takes(declared: Parameter, value: string): boolean {
  const { AllowedPattern, AllowedValues, MaxLength, MaxValue, MinValue, Type } = declared;
  if (AllowedValues?.map(String).includes(value) === false) return false;
  if (AllowedPattern !== undefined && !new RegExp(`^(?:${AllowedPattern})$`).test(value)) return false;
  if (MaxLength !== undefined && value.length > MaxLength) return false;
  if (Type !== 'Number') return true;
  const number = Number(value);
  return value !== '' && number >= (MinValue ?? number) && number <= (MaxValue ?? number);
}

export interface Deployed {
  readonly resources: ReadonlyMap<string, { readonly type: string; readonly properties: unknown }>;
  readonly outputs: ReadonlyMap<string, unknown>;
}

const PSEUDO: Readonly<Record<string, string>> = {
  'AWS::AccountId': '111111111111',
  'AWS::Partition': 'aws',
  'AWS::Region': 'eu-central-1',
  'AWS::StackName': 'stack',
  'AWS::StackId': 'arn:aws:cloudformation:eu-central-1:111111111111:stack/stack/1',
  'AWS::URLSuffix': 'amazonaws.com',
};
const NOTHING = Symbol('AWS::NoValue');

/** The resources and outputs of the template with these values; `pseudo` replaces values of AWS. Throws for a value that is refused, and for a reference to nothing. */
export function deploy(
  document: Template,
  given: Readonly<Record<string, string>>,
  pseudo: Readonly<Record<string, string>> = {},
): Deployed {
  const values = new Map<string, string>();
  for (const [name, declared] of Object.entries(document.Parameters)) {
    const value = given[name] ?? declared.Default;
    if (value === undefined) throw new Error(`parameter ${name} has no value`);
    if (!takes(declared, String(value))) throw new Error(`parameter ${name} is not ${value}`);
    values.set(name, String(value));
  }
  for (const name of Object.keys(given)) if (!values.has(name)) throw new Error(`there is no parameter ${name}`);

  const holds = (name: string): boolean => {
    if (!(name in document.Conditions)) throw new Error(`there is no condition ${name}`);
    return resolved(document.Conditions[name]) === true;
  };
  const exists = (id: string): boolean => {
    const { Condition } = document.Resources[id] ?? {};
    return id in document.Resources && (Condition === undefined || holds(Condition));
  };
  const refer = (id: string, text: string): string => {
    if (!exists(id)) throw new Error(`${text} refers to ${id}, which does not exist`);
    return text;
  };
  const ref = (name: string): unknown => {
    if (name === 'AWS::NoValue') return NOTHING;
    const value = pseudo[name] ?? PSEUDO[name] ?? values.get(name);
    if (value === undefined) return refer(name, `<${name}>`);
    return document.Parameters[name]?.Type === 'CommaDelimitedList' ? (value === '' ? [] : value.split(',')) : value;
  };

  function call(name: string, argument: unknown): unknown {
    const list = (): unknown[] => {
      const items = resolved(argument);
      if (!Array.isArray(items)) throw new Error(`${name} without a list`);
      return items;
    };
    switch (name) {
      case 'Ref':
        return ref(String(argument));
      case 'Condition':
        return holds(String(argument));
      case 'Fn::GetAtt':
        return refer(String(list()[0]), `<${list().join('.')}>`);
      case 'Fn::If': {
        const [condition, then, otherwise] = Array.isArray(argument) ? argument : [];
        return resolved(holds(String(condition)) ? then : otherwise);
      }
      case 'Fn::Equals':
        return list()[0] === list()[1];
      case 'Fn::Not':
        return list()[0] !== true;
      case 'Fn::And':
        return list().every((one) => one === true);
      case 'Fn::EachMemberEquals': {
        const [members, value] = list();
        return Array.isArray(members) && members.every((one) => one === value);
      }
      case 'Fn::Join': {
        const [separator, parts] = list();
        return Array.isArray(parts) ? parts.join(String(separator)) : NOTHING;
      }
      case 'Fn::Split':
        return String(list()[1]).split(String(list()[0]));
      case 'Fn::Select': {
        const [index, items] = list();
        return Array.isArray(items) ? items[Number(index)] : `<${String(index)} of ${String(items)}>`;
      }
      case 'Fn::Cidr':
        return Array.from({ length: Number(list()[1]) }, (_, i) => `<${i} of ${String(list()[0])}>`);
      case 'Fn::GetAZs':
        return ['a', 'b', 'c'];
      case 'Fn::FindInMap': {
        const [map, key, member] = list().map(String);
        const value = document.Mappings[map ?? '']?.[key ?? '']?.[member ?? ''];
        if (value === undefined) throw new Error(`there is no ${map} ${key} ${member}`);
        return value;
      }
      case 'Fn::Sub':
        return String(argument).replaceAll(/\$\{([\w:]+)\}/g, (_, id: string) => String(ref(id)));
      default:
        throw new Error(`${name} is not known here`);
    }
  }

  function resolved(node: unknown): unknown {
    if (typeof node !== 'object' || node === null) return node;
    if (Array.isArray(node)) return node.map(resolved).filter((one) => one !== NOTHING);
    const [[name, argument] = ['', undefined], ...others] = Object.entries(node);
    if (others.length === 0 && (name === 'Ref' || name === 'Condition' || name.startsWith('Fn::')))
      return name === 'Condition' && typeof argument !== 'string'
        ? { Condition: resolved(argument) }
        : call(name, argument);
    return Object.fromEntries(
      Object.entries(node)
        .map(([key, value]) => [key, resolved(value)] as const)
        .filter(([, value]) => value !== NOTHING),
    );
  }

  for (const { Assertions, RuleCondition } of Object.values(document.Rules))
    if (resolved(RuleCondition) === true)
      for (const { Assert, AssertDescription } of Assertions)
        if (resolved(Assert) !== true) throw new Error(AssertDescription);

  const resources = Object.entries(document.Resources)
    .filter(([id]) => exists(id))
    .map(([id, { Type, Properties }]) => [id, { type: Type, properties: resolved(Properties) }] as const);
  const outputs = Object.entries(document.Outputs)
    .filter(([, { Condition }]) => Condition === undefined || holds(Condition))
    .map(([id, { Value }]) => [id, resolved(Value)] as const);
  return { resources: new Map(resources), outputs: new Map(outputs) };
}
