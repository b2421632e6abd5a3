import { Duration, RemovalPolicy, Validations } from 'aws-cdk-lib';
import { AttributeType, Billing, TableEncryptionV2, TableV2, type ITableV2 } from 'aws-cdk-lib/aws-dynamodb';
import { Key, type IKey } from 'aws-cdk-lib/aws-kms';
import {
  BlockPublicAccess,
  Bucket,
  BucketEncryption,
  CfnBucket,
  ObjectLockRetention,
  ObjectOwnership,
  StorageClass,
  type IBucket,
  type LifecycleRule,
} from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import type { InfraSettings } from '../settings/schema.ts';
import { Replication } from './replication.ts';

export interface StorageProps {
  /** The start of the alias of a key that is created. */
  readonly prefix: string;
  /** The key of the bucket, the table and the queues. */
  readonly encryption: InfraSettings['encryption'];
  /** A bucket to create, or one that exists. */
  readonly bucket: InfraSettings['bucket'];
}

/** The storage class of archives in CDK, by its name in the settings. */
const STORAGE_CLASSES: Readonly<Record<Exclude<InfraSettings['bucket']['storageClass'], 'STANDARD'>, StorageClass>> = {
  STANDARD_IA: StorageClass.INFREQUENT_ACCESS,
  INTELLIGENT_TIERING: StorageClass.INTELLIGENT_TIERING,
  GLACIER_IR: StorageClass.GLACIER_INSTANT_RETRIEVAL,
  GLACIER: StorageClass.GLACIER,
  DEEP_ARCHIVE: StorageClass.DEEP_ARCHIVE,
};

/**
 * Everything that outlives the stack: the bucket of archives, the table of rules and records, and the key where there is one. They remain when
 * the stack is deleted.
 */
export class Storage extends Construct {
  /** Created, or the one that exists. */
  readonly bucket: IBucket;
  readonly table: ITableV2;
  /** The key of the bucket, the table and the queues. Undefined: keys that AWS owns. */
  readonly key: IKey | undefined;

  constructor(scope: Construct, id: string, props: StorageProps) {
    super(scope, id);
    this.key = this.#addKey(props);
    this.bucket =
      props.bucket.existing === undefined
        ? this.#addBucket(props.bucket)
        : Bucket.fromBucketName(this, 'Bucket', props.bucket.existing);
    this.table = this.#addTable();
  }

  #addKey({ encryption, prefix }: StorageProps): IKey | undefined {
    if (encryption === 'aws') return undefined;
    if (encryption !== 'create') return Key.fromKeyArn(this, 'Key', encryption);
    return new Key(this, 'Key', {
      alias: `alias/${prefix}`,
      description: 'Archives, records and jobs of Transship',
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
  }

  #addBucket(settings: InfraSettings['bucket']): IBucket {
    const { name, objectLock, replicateTo } = settings;
    const replication = replicateTo === undefined ? undefined : new Replication(this, 'Replication', replicateTo);
    const bucket = new Bucket(this, 'Bucket', {
      ...(name === undefined ? {} : { bucketName: name }),
      ...(this.key === undefined
        ? { encryption: BucketEncryption.S3_MANAGED }
        : { encryption: BucketEncryption.KMS, encryptionKey: this.key, bucketKeyEnabled: true }),
      versioned: true,
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      enforceSSL: true,
      minimumTLSVersion: 1.2,
      lifecycleRules: [lifecycleOf(settings)],
      ...replication?.properties,
      ...(objectLock === undefined
        ? {}
        : {
            objectLockEnabled: true,
            objectLockDefaultRetention:
              objectLock.mode === 'compliance'
                ? ObjectLockRetention.compliance(Duration.days(objectLock.days))
                : ObjectLockRetention.governance(Duration.days(objectLock.days)),
          }),
      // a failed first deployment deletes the bucket: otherwise the next one would find its name taken
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    sendEventsToEventBridge(bucket);
    replication?.grantFrom(bucket);
    Validations.of(bucket).acknowledge({
      id: 'AwsSolutions-S1',
      reason:
        'Data events of CloudTrail record reads and writes of archives, once for all buckets of an account. Access logs would need another bucket.',
    });
    return bucket;
  }

  #addTable(): ITableV2 {
    const { key } = this;
    return new TableV2(this, 'Table', {
      partitionKey: { name: 'pk', type: AttributeType.STRING },
      sortKey: { name: 'sk', type: AttributeType.STRING },
      timeToLiveAttribute: 'ttl',
      billing: Billing.onDemand(),
      encryption: key === undefined ? TableEncryptionV2.dynamoOwnedKey() : TableEncryptionV2.customerManagedKey(key),
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      deletionProtection: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
  }
}

function lifecycleOf({ storageClass, keepOldVersionsDays }: InfraSettings['bucket']): LifecycleRule {
  return {
    id: 'archives',
    // for abandoned uploads: a worker resumes an interrupted upload within hours
    abortIncompleteMultipartUploadAfter: Duration.days(7),
    noncurrentVersionExpiration: Duration.days(keepOldVersionsDays),
    expiredObjectDeleteMarker: true,
    ...(storageClass === 'STANDARD'
      ? {}
      : { transitions: [{ storageClass: STORAGE_CLASSES[storageClass], transitionAfter: Duration.days(30) }] }),
  };
}

/** AWS Backup and publish rules need the events. Sets the bucket's own property: `eventBridgeEnabled` would add a function and a role to the stack. */
function sendEventsToEventBridge(bucket: Bucket): void {
  const { defaultChild } = bucket.node;
  if (!(defaultChild instanceof CfnBucket)) throw new Error('the bucket has no resource of CloudFormation');
  defaultChild.notificationConfiguration = { eventBridgeConfiguration: { eventBridgeEnabled: true } };
}
