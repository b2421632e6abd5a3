import { join } from 'node:path';
import { startRegistry, type LocalRegistry } from './registry.ts';
import { startS3, type LocalS3 } from './s3.ts';

export interface StackOptions {
  /** Where everything is kept; another process on the same folder goes on with it. */
  readonly folder: string;
}

/** S3, two registries that behave as Amazon ECR does and a plain OCI registry, in this process, on ports that were free. */
export interface Stack extends AsyncDisposable {
  readonly s3: LocalS3;
  readonly ecr: LocalRegistry;
  /** Of another account in another region. */
  readonly otherEcr: LocalRegistry;
  readonly registry: LocalRegistry;
  readonly ecrHost: string;
  readonly otherEcrHost: string;
  /** A bucket that is there already. */
  readonly bucket: string;
  /** What a process needs in its environment to reach all of it. */
  readonly environment: Readonly<Record<string, string>>;
}

const FIRST = { account: '111111111111', region: 'us-east-1' };
const SECOND = { account: '222222222222', region: 'eu-west-1' };
const BUCKET = 'transship-backups';
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };

/** Starts everything; closing it ends everything, and keeps the folder. */
export async function startStack(o: StackOptions): Promise<Stack> {
  await using starting = new AsyncDisposableStack();
  const s3 = starting.use(
    await startS3({ dir: join(o.folder, 's3'), region: FIRST.region, credentials: CREDENTIALS, buckets: [BUCKET] }),
  );
  const ecr = starting.use(await startRegistry({ mode: 'ecr', folder: join(o.folder, 'ecr'), ...FIRST }));
  const otherEcr = starting.use(await startRegistry({ mode: 'ecr', folder: join(o.folder, 'other-ecr'), ...SECOND }));
  const registry = starting.use(await startRegistry({ mode: 'oci', folder: join(o.folder, 'registry') }));
  const ecrHost = `${FIRST.account}.dkr.ecr.${FIRST.region}.amazonaws.com`;
  const otherEcrHost = `${SECOND.account}.dkr.ecr.${SECOND.region}.amazonaws.com`;
  const running = starting.move();
  return {
    s3,
    ecr,
    otherEcr,
    registry,
    ecrHost,
    otherEcrHost,
    bucket: BUCKET,
    environment: {
      AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
      AWS_REGION: FIRST.region,
      AWS_ENDPOINT_URL_S3: s3.endpoint,
      AWS_ENDPOINT_URL_ECR: ecr.url,
      TRANSSHIP_REGISTRY_ENDPOINTS: `${ecrHost}=${ecr.url},${otherEcrHost}=${otherEcr.url}`,
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}
