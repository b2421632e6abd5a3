import { Validations, type App } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { PlainSynthesizer } from '../synth/plain-synthesizer.ts';
import { textOf } from './parameters.ts';
import { PortableRegistriesStack, PortableReplicasStack } from './registries.ts';
import { PortableServiceStack } from './service.ts';

/** The stacks that any account and Region can have: nothing of an account is in their templates. All are held to cdk-nag's rules. */
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
    description: 'Transship: repositories, their replication and who may use them',
  });
  new PortableReplicasStack(app, 'TransshipReplicas', {
    ...props(),
    description: 'Transship: how replicas of repositories are made, and what tells of them',
  });
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
}
