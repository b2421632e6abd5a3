import { Refusal } from '../registry/exchange.ts';
import type { Seal } from '../registry/seal.ts';
import type { Ecr } from './ecr.ts';

const DEFAULT_PAGE = 100;
const MAX_PAGE = 1000;

export const CONTENT_TYPE = 'application/x-amz-json-1.1';

/** What ECR's API does with the parameters of a call. Throws a Refusal. */
export type Operation = (ecr: Ecr, input: Input) => object;

export type Json = Readonly<Record<string, unknown>>;

/** The parameters of a call; what is missing or of another type is refused as ECR does. */
export class Input {
  readonly #values: Json;
  readonly #seal: Seal;

  constructor(values: Json, account: string, seal: Seal) {
    this.#values = values;
    this.#seal = seal;
    const registryId = this.optionalText('registryId');
    if (registryId !== undefined && registryId !== account) {
      const name = this.optionalText('repositoryName') ?? '';
      const message = `The repository with name '${name}' does not exist in the registry with id '${registryId}'`;
      throw apiError('RepositoryNotFoundException', message);
    }
  }

  optional(name: string): unknown {
    return this.#values[name] ?? undefined;
  }

  /** All parameters but those named. */
  values(...without: readonly string[]): Json {
    return Object.fromEntries(Object.entries(this.#values).filter(([name]) => !without.includes(name)));
  }

  optionalText(name: string): string | undefined {
    const value = this.optional(name);
    if (value === undefined || typeof value === 'string') return value;
    throw apiError('SerializationException', `${name} must be a string`);
  }

  text(name: string): string {
    const value = this.optionalText(name);
    if (value === undefined || value === '') throw invalid(name, 'must not be null');
    return value;
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T {
    const value = this.text(name);
    const found = values.find((other) => other === value);
    if (found === undefined) throw invalid(name, `Member must satisfy enum value set: [${values.join(', ')}]`);
    return found;
  }

  optionalTexts(name: string): readonly string[] | undefined {
    const value = this.#optionalList(name);
    if (value?.every((item) => typeof item === 'string') === false) {
      throw apiError('SerializationException', `${name} must be a list of strings`);
    }
    return value;
  }

  optionalObject(name: string): Json | undefined {
    const value = this.optional(name);
    if (value === undefined || isObject(value)) return value;
    throw apiError('SerializationException', `${name} must be a structure`);
  }

  object(name: string): Json {
    const value = this.optionalObject(name);
    if (value === undefined) throw invalid(name, 'must not be null');
    return value;
  }

  optionalObjects(name: string): readonly Json[] | undefined {
    const value = this.#optionalList(name);
    if (value?.every(isObject) === false) {
      throw apiError('SerializationException', `${name} must be a list of structures`);
    }
    return value;
  }

  /** Refuses parameters that `name` excludes. */
  forbid(name: string, ...others: readonly string[]): void {
    const given = others.find((other) => this.optional(other) !== undefined);
    if (given !== undefined) throw invalid(given, `cannot be used together with ${name}`);
  }

  /** The requested page of a sorted list, and the token of the next page. */
  page<T>(
    items: readonly T[],
    keyOf: (item: T) => string,
  ): { readonly page: readonly T[]; readonly nextToken: { readonly nextToken?: string } } {
    const size = this.optional('maxResults') ?? DEFAULT_PAGE;
    if (typeof size !== 'number' || size < 1 || size > MAX_PAGE) {
      throw invalid('maxResults', `Member must have value between 1 and ${MAX_PAGE}`);
    }
    const token = this.optionalText('nextToken');
    const after = token === undefined ? '' : this.#seal.open(token);
    if (after === undefined) throw invalid('nextToken', 'is not one that was given out');
    const rest = items.filter((item) => keyOf(item) > after);
    const page = rest.slice(0, size);
    const last = page.at(-1);
    const more = last !== undefined && page.length < rest.length;
    return { page, nextToken: more ? { nextToken: this.#seal.close(keyOf(last)) } : {} };
  }

  #optionalList(name: string): readonly unknown[] | undefined {
    const value = this.optional(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) throw apiError('SerializationException', `${name} must be a list`);
    // the SDK sends an empty list where nothing was chosen
    return value.length === 0 ? undefined : value;
  }
}

/** https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization */
export function apiError(type: string, message: string, status = 400): Refusal {
  const headers = { 'content-type': CONTENT_TYPE, 'x-amzn-errortype': type };
  return new Refusal(message, { status, headers, body: JSON.stringify({ __type: type, message }) });
}

export function parseBody(body: Uint8Array): Json {
  try {
    const value: unknown = JSON.parse(Buffer.from(body).toString());
    if (isObject(value)) return value;
  } catch {
    // refused below, with all else that is no structure
  }
  throw apiError('SerializationException', 'the body is not a JSON object');
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function invalid(parameter: string, constraint: string): Refusal {
  const message = `Invalid parameter at '${parameter}' failed to satisfy constraint: '${constraint}'`;
  return apiError('InvalidParameterException', message);
}

export function parseDocument(parameter: string, text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // refused below
  }
  throw invalid(parameter, 'Invalid JSON syntax');
}

/** The wire form of a time. */
export function seconds(ms: number): number {
  return ms / 1000;
}
