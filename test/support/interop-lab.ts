import { GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3';
import { join } from 'node:path';
import { buildImage, pushImage, type UmociImage, type UmociRecipe } from './interop-image.ts';
import { createWorkspace, type ProcessOptions } from './interop-process.ts';
import { startDockerRegistry, type DockerRegistry } from './interop-registry.ts';
import { BUCKET, openS3 } from './local-s3.ts';
import type { LocalS3 } from '../../local/s3/s3.ts';

/** A docker-registry with an image, an empty S3, and a folder to work in. Disposing stops and removes all of it. */
export interface Lab extends AsyncDisposable {
  readonly folder: string;
  /** For every process: an environment with the S3, and without credentials of registries. */
  readonly o: ProcessOptions;
  readonly image: UmociImage;
  readonly registry: DockerRegistry;
  readonly s3: LocalS3;
  /** The client of the S3. */
  readonly client: S3Client;
  /** Starts another docker-registry. */
  startRegistry(name: string, htpasswd?: string): Promise<DockerRegistry>;
  /** An object of the S3's bucket. */
  object(key: string): Promise<Buffer>;
  /** Everything in the bucket: keys of objects, then keys of open uploads. */
  bucketContents(): Promise<{ readonly keys: readonly string[]; readonly uploads: readonly string[] }>;
}

/** The image's name in the registry; its index is tagged `v1`. */
export const APP = 'team/app';

export async function openLab(recipe: UmociRecipe = {}): Promise<Lab> {
  await using starting = new AsyncDisposableStack();
  const workspace = starting.use(await createWorkspace());
  const { s3, client } = starting.use(await openS3());
  const env = {
    ...workspace.env,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    AWS_REGION: s3.region,
    AWS_ENDPOINT_URL_S3: s3.endpoint,
  };
  const startRegistry: Lab['startRegistry'] = async (name, htpasswd) =>
    running.use(
      await startDockerRegistry({
        folder: join(workspace.folder, name),
        env,
        ...(htpasswd === undefined ? {} : { htpasswd }),
      }),
    );
  const registry = starting.use(await startDockerRegistry({ folder: join(workspace.folder, 'registry'), env }));
  const image = await buildImage(join(workspace.folder, 'image'), { env }, recipe);
  await pushImage(image, `${registry.host}/${APP}`, { env });
  const running = starting.move();
  return {
    folder: workspace.folder,
    o: { env },
    image,
    registry,
    s3,
    client,
    startRegistry,
    object: async (key) => {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    bucketContents: async () => {
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: BUCKET }));
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
      return { keys: Contents.map(({ Key = '' }) => Key), uploads: Uploads.map(({ Key = '' }) => Key) };
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}
