import { CfnTieringConfiguration, type IBackupVault } from 'aws-cdk-lib/aws-backup';
import type { Construct } from 'constructs';
import type { InfraSettings } from '../settings/schema.ts';

/**
 * Moves backups of a vault to the low-cost tier of AWS Backup, where the settings request it. `resources`: the buckets; `*` stands for all.
 * https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-backup-tieringconfiguration.html
 */
export function addTiering(
  scope: Construct,
  { plan }: NonNullable<InfraSettings['vault']>,
  { backupVaultName, resource }: { readonly backupVaultName: string; readonly resource: string },
  vault: IBackupVault,
): void {
  if (plan.tierAfterDays === undefined) return;
  const tiering = new CfnTieringConfiguration(scope, 'Tiering', {
    backupVaultName,
    // a name has letters, digits and "_" only
    tieringConfigurationName: `${backupVaultName.replaceAll('-', '_')}_tiering`,
    resourceSelection: [{ resourceType: 'S3', resources: [resource], tieringDownSettingsInDays: plan.tierAfterDays }],
  });
  // it names the vault, and so does not wait for it by itself
  tiering.node.addDependency(vault);
}
