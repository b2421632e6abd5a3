import { Validations, type App } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { PlainSynthesizer } from '../synth/plain-synthesizer.ts';
import { textOf } from './parameters.ts';
import { PortableRegistriesStack, PortableReplicasStack } from './registries.ts';
import { PortableServiceStack } from './service.ts';

/** The stacks for any account and Region: their templates name no account. cdk-nag checks all of them. */
export function addPortableStacks(app: App): void {
  const props = (): { readonly synthesizer: PlainSynthesizer } => ({
    synthesizer: new PlainSynthesizer({ assetPrefix: textOf('AssetPrefix') }),
  });
  new PortableServiceStack(app, 'Transship', {
    ...props(),
    description: 'Transship: mirrors container images and backs them up',
  });
  new PortableRegistriesStack(app, 'TransshipRegistries', {
    ...props(),
    description: 'Transship: repositories, their replication and the roles that use them',
  });
  new PortableReplicasStack(app, 'TransshipReplicas', {
    ...props(),
    description: 'Transship: settings of replicas of repositories, and events about replication',
  });
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
}
