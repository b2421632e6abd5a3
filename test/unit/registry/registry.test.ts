import { expect, test } from 'vitest';
import { copy } from '../../../worker/copy/copy.ts';
import type { RegistryOptions } from '../../../worker/registry/registry.ts';
import { registryUnderTest, type RegistryUnderTest } from '../../support/registries.ts';
import { sourceSuite, type MadeSource } from '../../contracts/source.ts';
import { targetSuite, type MadeTarget } from '../../contracts/target.ts';
import { makeImage, type MadeImage } from '../../support/images.ts';

const ECR = { mode: 'ecr', account: '111111111111', region: 'us-east-1' } as const;
const SIGNED_IN = { credentials: async () => ({ username: 'ann', password: 'secret' }) };

const KINDS: Readonly<Record<string, { start: () => Promise<RegistryUnderTest>; client?: Partial<RegistryOptions> }>> =
  {
    'a registry': { start: async () => registryUnderTest({ mode: 'oci' }) },
    'a registry with bearer tokens': {
      start: async () => registryUnderTest({ mode: 'oci', auth: 'bearer', users: { ann: 'secret' } }),
      client: SIGNED_IN,
    },
    'a registry without the referrers API': {
      start: async () =>
        registryUnderTest({ mode: 'oci', auth: 'basic', users: { ann: 'secret' }, referrersApi: false }),
      client: SIGNED_IN,
    },
    'Amazon ECR': { start: async () => registryUnderTest(ECR), client: { create: {} } },
  };

for (const [name, { start, client }] of Object.entries(KINDS)) {
  sourceSuite(name, async (image: MadeImage): Promise<MadeSource> => {
    const made = await start();
    await copy(image.content, made.client(client).repository('team/app'), [image.root]);
    const source = made.client({ ...client, side: 'source' }).repository('team/app');
    return { source, close: async () => made[Symbol.asyncDispose]() };
  });

  targetSuite(
    name,
    async (): Promise<MadeTarget> => {
      const made = await start();
      return {
        target: made.client(client).repository('team/app'),
        view: async () => made.client({ ...client, side: 'source' }).repository('team/app'),
        close: async () => made[Symbol.asyncDispose](),
      };
    },
    { emptyBlobs: name !== 'Amazon ECR' },
  );
}

test('a repository that ECR does not have is created with its own options, or else with those of the client', async () => {
  await using made = await registryUnderTest(ECR);
  const client = made.client({ create: { scanOnPush: true } });
  const image = await makeImage({ layers: [100] });
  const pushed = async (name: string, create?: Readonly<Record<string, unknown>> | false): Promise<unknown> => {
    await copy(image.content, client.repository(name, { create }), [image.root]);
    return client.settings(name);
  };
  expect(await pushed('as-the-client-says')).toMatchObject({ scanOnPush: true, tagMutability: 'MUTABLE' });
  expect(await pushed('immutable', { tagMutability: 'IMMUTABLE' })).toMatchObject({
    scanOnPush: false,
    tagMutability: 'IMMUTABLE',
  });
  await expect(pushed('not-created', false)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect(() => client.repository('app', { create: { mutability: 'NONE' } })).toThrow(/there is no "mutability"/);
});
