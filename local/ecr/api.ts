import type { Ecr } from './ecr.ts';
import type { Answer, Exchange, Refusal } from '../registry/exchange.ts';
import type { Route } from '../registry/route.ts';
import { Seal } from '../registry/seal.ts';
import { IMAGE_OPERATIONS } from './images.ts';
import { apiError, CONTENT_TYPE, Input, parseBody, seconds, type Operation } from './input.ts';
import { REGISTRY_OPERATIONS } from './registry-settings.ts';
import { REPOSITORY_OPERATIONS } from './repositories.ts';

const TARGET = 'AmazonEC2ContainerRegistry_V20150921.';
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;

/** The API call that a POST to the root is, if it is one. */
export function parseApiRoute(method: string, url: URL, target: string): Route | undefined {
  if (url.pathname !== '/') return undefined;
  if (method !== 'POST') return { kind: 'unsupported', allow: 'POST' };
  return { kind: 'api', operation: target.startsWith(TARGET) ? target.slice(TARGET.length) : target };
}

/** The answers of ECR's API when it is too busy, or broken. */
export function apiTrouble(status: number, code: string | undefined): Refusal {
  return status === 429
    ? apiError(code ?? 'ThrottlingException', 'Rate exceeded', status)
    : apiError(code ?? 'ServerException', 'These errors are usually caused by a server-side issue.', status);
}

/**
 * The part of ECR's JSON API that images are mirrored and backed up with.
 * https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Operations.html
 */
export class EcrApi {
  readonly #ecr: Ecr;
  readonly #seal = new Seal();

  constructor(ecr: Ecr) {
    this.#ecr = ecr;
  }

  async answer(exchange: Exchange, operation: string): Promise<Answer> {
    checkSigned(this.#ecr, exchange.headers.authorization);
    const work = Object.hasOwn(OPERATIONS, operation) ? OPERATIONS[operation] : undefined;
    if (work === undefined) {
      throw apiError('UnknownOperationException', `the local ECR does not know ${operation}: add it there`, 501);
    }
    const body = await exchange.bodyUpTo(MAX_REQUEST_BYTES);
    if (body === undefined) throw apiError('SerializationException', 'the request is too long', 413);
    const input = new Input(parseBody(body), this.#ecr.account, this.#seal);
    const name = input.optionalText('repositoryName');
    for (const action of actionsOf(operation, input)) {
      const denial = this.#ecr.denialOf(action, name === undefined ? '*' : this.#ecr.arnOf(name));
      if (denial !== undefined) throw apiError('AccessDeniedException', denial);
    }
    const output = work(this.#ecr, input);
    return { status: 200, headers: { 'content-type': CONTENT_TYPE }, body: JSON.stringify(output) };
  }
}

/** A repository that is created with tags needs the permission for tags too. */
function actionsOf(operation: string, input: Input): readonly string[] {
  const tags = operation === 'CreateRepository' && input.optionalObjects('tags') !== undefined;
  return [`ecr:${operation}`, ...(tags ? ['ecr:TagResource'] : [])];
}

const OPERATIONS: Readonly<Record<string, Operation>> = {
  GetAuthorizationToken: (ecr, input) => {
    const password = ecr.tokens.issue({ kind: 'access', user: 'AWS', scopes: [] }, ecr.tokenLifetimeSeconds);
    const token = {
      authorizationToken: Buffer.from(`AWS:${password}`).toString('base64'),
      expiresAt: seconds(ecr.clock.now() + ecr.tokenLifetimeSeconds * 1000),
    };
    const accounts = input.optionalTexts('registryIds') ?? [ecr.account];
    const hostOf = (account: string): string => ecr.host.replace(ecr.account, account);
    return {
      authorizationData: accounts.map((account) =>
        Object.assign({ proxyEndpoint: `https://${hostOf(account)}` }, token),
      ),
    };
  },

  ...REGISTRY_OPERATIONS,
  ...REPOSITORY_OPERATIONS,
  ...IMAGE_OPERATIONS,
};

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html; the signature itself is not checked. */
function checkSigned(ecr: Ecr, authorization: string | undefined): void {
  if (authorization === undefined) {
    throw apiError('MissingAuthenticationTokenException', 'Missing Authentication Token', 403);
  }
  const [, region, service] =
    /^AWS4-HMAC-SHA256 .*Credential=[^/]+\/[0-9]{8}\/([^/]+)\/([^/]+)\/aws4_request/.exec(authorization) ?? [];
  if (region === undefined) {
    throw apiError('IncompleteSignatureException', 'the Authorization header is not of AWS Signature Version 4', 403);
  }
  if (region !== ecr.region || service !== 'ecr') {
    const message = `Credential should be scoped to a valid region: this is ecr in ${ecr.region}, not ${service} in ${region}.`;
    throw apiError('InvalidSignatureException', message, 403);
  }
}
