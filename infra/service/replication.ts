import { Stack } from 'aws-cdk-lib';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Bucket, type BucketProps, type IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import type { InfraSettings } from '../settings/schema.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

/**
 * Copies of every object in a second bucket, made by S3. Deletions are not replicated, so that copies outlive what is deleted here, and the role may
 * not replicate them: CDK's own role may, and has one name for all deployments of an account unless an app sets a flag.
 */
export class Replication extends Construct {
  /** The properties of the bucket that is replicated. */
  readonly properties: Required<Pick<BucketProps, 'replicationRole' | 'replicationRules'>>;
  readonly #role: Role;
  readonly #replica: IBucket;
  readonly #isForeign: boolean;

  constructor(scope: Construct, id: string, to: NonNullable<InfraSettings['bucket']['replicateTo']>) {
    super(scope, id);
    const { name: bucketName, account = Stack.of(this).account } = to;
    // copies are owned by the account of the other bucket
    this.#isForeign = account !== Stack.of(this).account;
    this.#replica = Bucket.fromBucketAttributes(this, 'Replica', { bucketName, account });
    this.#role = new Role(this, 'Role', {
      description: 'Replicates Transship archives to a second bucket',
      assumedBy: new ServicePrincipal('s3.amazonaws.com'),
    });
    this.properties = {
      replicationRole: this.#role,
      replicationRules: [
        {
          id: 'archives',
          destination: this.#replica,
          priority: 1,
          deleteMarkerReplication: false,
          accessControlTransition: this.#isForeign,
        },
      ],
    };
  }

  /** Grants what S3 calls by the role: https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html */
  grantFrom(bucket: IBucket): void {
    const reason = 'Every object of the bucket is replicated, to one other bucket.';
    const grant = (resource: string, ...actions: readonly string[]): void => {
      this.#role.addToPolicy(new PolicyStatement({ actions: [...actions], resources: [resource] }));
      acknowledgeWildcard(this.#role, resource, reason);
    };
    grant(bucket.bucketArn, 's3:GetReplicationConfiguration', 's3:ListBucket');
    grant(
      bucket.arnForObjects('*'),
      's3:GetObjectVersionAcl',
      's3:GetObjectVersionForReplication',
      's3:GetObjectVersionTagging',
    );
    grant(
      this.#replica.arnForObjects('*'),
      ...(this.#isForeign ? ['s3:ObjectOwnerOverrideToBucketOwner'] : []),
      's3:ReplicateObject',
      's3:ReplicateTags',
    );
  }
}
