import type * as Sdk from '@aws-sdk/client-ecr';
import type { EcrHost } from '../../oci/ecr-host.ts';
import type { Abortable } from '../../util/abort.ts';
import { renewingCredentials } from '../../util/renew-credentials.ts';
import { calling } from '../../util/sdk-failure.ts';
import { sdkRequests } from '../../util/sdk-requests.ts';
import { SharedPromise } from '../../util/shared-promise.ts';
import { credentialsOf, type AwsAccess } from './aws-access.ts';

export interface EcrClientOptions extends AwsAccess {
  readonly host: string;
  readonly ecr: EcrHost;
}

/**
 * The SDK's client for one registry. The SDK is loaded with the first call, so that programs that never meet ECR do not pay for it. Its own
 * environment (`AWS_REGION`, `AWS_ENDPOINT_URL_ECR`) applies, but the region is that of the host.
 */
export class EcrClient {
  readonly host: string;
  readonly region: string;
  /** The account. */
  readonly registryId: string;
  readonly #options: EcrClientOptions;
  readonly #client = new SharedPromise<Sdk.ECR>();

  constructor(options: EcrClientOptions) {
    this.host = options.host;
    this.region = options.ecr.region;
    this.registryId = options.ecr.account;
    this.#options = options;
  }

  /** Calls the SDK, and returns what `send` resolves to. Failures begin with `what`; DENIED names `action`. */
  async call<T>(
    what: string,
    action: string,
    options: Abortable,
    send: (client: Sdk.ECR, sdkOptions: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const client = await this.#client.get(async () => this.#connect());
    return calling(what, action, options, async (sdkOptions) => send(client, sdkOptions));
  }

  /** The members by which a call names a repository. */
  idOf(repository: string): { readonly registryId: string; readonly repositoryName: string } {
    return { registryId: this.registryId, repositoryName: repository };
  }

  async close(): Promise<void> {
    const client = await this.#client.current?.catch(() => undefined);
    client?.destroy();
  }

  async #connect(): Promise<Sdk.ECR> {
    const { ECR } = await import('@aws-sdk/client-ecr');
    const { host, region } = this;
    return renewingCredentials(
      new ECR({
        ...sdkRequests(this.#options.proxies),
        region,
        maxAttempts: 6,
        useFipsEndpoint: this.#options.fips === true || /ecr-fips\./.test(host),
        useDualstackEndpoint: /\.on\.[a-z.]+$/.test(host),
        ...(await credentialsOf(this.#options, region)),
      }),
    );
  }
}
