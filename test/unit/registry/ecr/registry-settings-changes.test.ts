import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { registrySettingsChanges } from '../../../../worker/registry/ecr/registry-settings-changes.ts';
import {
  parseRegistrySettings,
  type RegistrySettings,
} from '../../../../worker/registry/ecr/parse-registry-settings.ts';
import { REGISTRY_MEMBERS } from '../../../../worker/registry/ecr/registry-settings.ts';

const short = fc.constantFrom('a', 'b', 'c');
const policy = fc.constantFrom('{"Statement":[]}', '{ "Statement": [] }', '{"Statement":[{"Effect":"Allow"}]}');
const settings: fc.Arbitrary<RegistrySettings> = fc
  .record(
    {
      replication: fc.array(fc.record({ destinations: fc.array(fc.record({ region: short, registryId: short })) }), {
        minLength: 1,
      }),
      scanning: fc.record({ scanType: fc.constantFrom('BASIC', 'ENHANCED'), rules: fc.constant([]) }),
      repositoryCreationTemplates: fc.uniqueArray(
        fc.record(
          { prefix: short, appliedFor: fc.constant(['REPLICATION' as const]), lifecyclePolicy: policy },
          { requiredKeys: ['prefix', 'appliedFor'] },
        ),
        { selector: ({ prefix }) => prefix },
      ),
      pullThroughCacheRules: fc.uniqueArray(fc.record({ ecrRepositoryPrefix: short, upstreamRegistryUrl: short }), {
        selector: ({ ecrRepositoryPrefix }) => ecrRepositoryPrefix,
      }),
      signing: fc.array(fc.record({ signingProfileArn: short }), { minLength: 1 }),
      registryPolicy: policy,
      accountSettings: fc.dictionary(short, short),
      pullTimeUpdateExclusions: fc.uniqueArray(short),
    },
    { requiredKeys: [] },
  )
  // as they come out of JSON
  .map((made) => parseRegistrySettings(JSON.parse(JSON.stringify(made)) as Record<string, unknown>));

/** The settings of a registry after a change, as ECR applies it. */
function applied(current: RegistrySettings, change: RegistrySettings): RegistrySettings {
  const merged = <T>(before: readonly T[] = [], added: readonly T[] = [], name: (one: T) => string): T[] => [
    ...new Map([...before, ...added].map((one) => [name(one), one])).values(),
  ];
  return {
    ...current,
    ...change,
    accountSettings: { ...current.accountSettings, ...change.accountSettings },
    repositoryCreationTemplates: merged(
      current.repositoryCreationTemplates,
      change.repositoryCreationTemplates,
      ({ prefix }) => prefix,
    ),
    pullThroughCacheRules: merged(
      current.pullThroughCacheRules,
      change.pullThroughCacheRules,
      ({ ecrRepositoryPrefix }) => ecrRepositoryPrefix,
    ),
    pullTimeUpdateExclusions: merged(
      current.pullTimeUpdateExclusions,
      change.pullTimeUpdateExclusions,
      (principal) => principal,
    ),
  };
}

test('the changes one after the other lead to the wanted settings, and remove nothing', () => {
  fc.assert(
    fc.property(settings, settings, (current, wanted) => {
      const changes = registrySettingsChanges(current, wanted);
      const after = changes.reduce<RegistrySettings>((now, change) => applied(now, change.settings), current);
      expect(registrySettingsChanges(after, wanted)).toEqual([]);
      for (const { member, from, to, settings: alone } of changes) {
        expect(from).not.toBe(to);
        const [name = ''] = member.split(' ');
        expect(Object.keys(alone)).toEqual([name]);
        expect(parseRegistrySettings(alone)).toEqual(alone);
      }
      // members that are not named stay
      for (const member of REGISTRY_MEMBERS)
        if (wanted[member] === undefined && current[member] !== undefined)
          expect(after[member]).toEqual(current[member]);
    }),
  );
});

test('the same settings are no change, whatever the whitespace of policies', () => {
  fc.assert(
    fc.property(settings, (some) => {
      expect(registrySettingsChanges(some, some)).toEqual([]);
    }),
  );
  const changes = registrySettingsChanges({ registryPolicy: '{"a":1}' }, { registryPolicy: '{ "a": 1 }' });
  expect(changes).toEqual([]);
});

test('the settings of every new registry count as nothing', () => {
  const fresh = { scanning: { scanType: 'BASIC' as const, rules: [] }, accountSettings: { BLOB_MOUNTING: 'DISABLED' } };
  const wanted = {
    scanning: { scanType: 'ENHANCED' as const, rules: [] },
    accountSettings: { BLOB_MOUNTING: 'ENABLED' },
  };
  expect(registrySettingsChanges(fresh, wanted)).toMatchObject([
    { member: 'accountSettings BLOB_MOUNTING', from: undefined, to: '"ENABLED"' },
    { member: 'scanning', from: undefined },
  ]);
  expect(registrySettingsChanges(wanted, fresh)).toMatchObject([{ from: '"ENABLED"' }, { member: 'scanning' }]);
});
