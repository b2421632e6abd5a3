import { RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import type { ITableV2 } from 'aws-cdk-lib/aws-dynamodb';
import {
  FlowLogDestination,
  FlowLogTrafficType,
  GatewayVpcEndpointAwsService,
  InterfaceVpcEndpointAwsService,
  IpAddresses,
  Port,
  SecurityGroup,
  Subnet,
  SubnetType,
  Vpc,
  type ISecurityGroup,
  type IVpc,
  type SubnetConfiguration,
  type SubnetSelection,
} from 'aws-cdk-lib/aws-ec2';
import { AnyPrincipal, PolicyStatement, Role } from 'aws-cdk-lib/aws-iam';
import { LogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct, DependencyGroup, type IDependable } from 'constructs';
import { workerActionsOn } from './grants.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { ownService } from '../synth/own-service.ts';

export interface NetworkProps {
  /** A VPC to create, or one that exists. */
  readonly network: InfraSettings['network'];
  /** Whether workers reach AWS at FIPS endpoints. */
  readonly fips: InfraSettings['fips'];
  /** Decides which further endpoints there are, and which buckets they admit. */
  readonly access: InfraSettings['access'];
  /** The bucket and the table that endpoints admit. */
  readonly bucket: IBucket;
  readonly table: ITableV2;
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
}

/** With two zones, workers keep running when the Region loses one. */
const ZONES = 2;

/** The network of the workers: they open connections, and accept none. */
export class Network extends Construct {
  readonly vpc: IVpc;
  readonly subnets: SubnetSelection;
  /** Admits no incoming connections. */
  readonly securityGroup: ISecurityGroup;
  /** Whether tasks have public addresses. */
  readonly publicAddresses: boolean;
  /** Every route, endpoint and rule that a task needs to reach AWS. A service that does not depend on it may start tasks that cannot pull their image. */
  readonly ready: IDependable;
  readonly #ready = new DependencyGroup();

  constructor(scope: Construct, id: string, props: NetworkProps) {
    super(scope, id);
    const { network } = props;
    this.ready = this.#ready;
    if (network.type === 'existing') {
      const { vpcId, subnetIds, availabilityZones } = network;
      this.vpc = Vpc.fromVpcAttributes(this, 'Vpc', { vpcId, availabilityZones });
      this.subnets = { subnets: subnetIds.map((subnetId) => Subnet.fromSubnetId(this, subnetId, subnetId)) };
      Validations.of(this).acknowledge({
        id: 'Annotation::@aws-cdk/aws-ec2:noSubnetRouteTableId',
        reason: 'The stack adds no routes: the subnets stay as they are.',
      });
      this.publicAddresses = network.publicAddresses;
      this.securityGroup = this.#addSecurityGroup(this.vpc);
      return;
    }
    const isPublic = network.type === 'public';
    const vpc = this.#addVpc(network, props);
    this.#ready.add(vpc.internetConnectivityEstablished);
    for (const subnet of [...vpc.publicSubnets, ...vpc.privateSubnets, ...vpc.isolatedSubnets])
      this.#ready.add(subnet.internetConnectivityEstablished, subnet.node.findChild('RouteTableAssociation'));
    this.vpc = vpc;
    this.publicAddresses = isPublic;
    this.securityGroup = this.#addSecurityGroup(vpc);
    const natGateways = isPublic ? 0 : network.natGateways;
    this.subnets = { subnetType: isPublic ? SubnetType.PUBLIC : privateType(natGateways) };
    this.#addGateways(vpc, props, isPublic || natGateways > 0);
    if (!isPublic) this.#addInterfaces(vpc, props);
  }

  #addVpc(
    network: Exclude<InfraSettings['network'], { readonly type: 'existing' }>,
    { logRetention }: NetworkProps,
  ): Vpc {
    const natGateways = network.type === 'public' ? 0 : network.natGateways;
    const vpc = new Vpc(this, 'Vpc', {
      ipAddresses: IpAddresses.cidr(network.cidr),
      ...(network.availabilityZones === undefined
        ? { maxAzs: ZONES }
        : { availabilityZones: network.availabilityZones }),
      natGateways,
      subnetConfiguration: subnetsOf(network.type, natGateways),
    });
    if (network.availabilityZones !== undefined)
      Validations.of(vpc).acknowledge({
        id: 'CloudFormation-Validate::W3010',
        reason: 'The settings name the zones; without them, CloudFormation takes those of the Region.',
      });
    vpc.addFlowLog('Refused', {
      destination: FlowLogDestination.toCloudWatchLogs(
        new LogGroup(this, 'Refused', { retention: logRetention, removalPolicy: RemovalPolicy.DESTROY }),
        new Role(this, 'RefusedRole', {
          description: 'Logs what the network of Transship refuses',
          assumedBy: ownService(this, 'vpc-flow-logs.amazonaws.com'),
        }),
      ),
      // accepted traffic is the workers' own, which their logs record
      trafficType: FlowLogTrafficType.REJECT,
    });
    return vpc;
  }

  #addSecurityGroup(vpc: IVpc): ISecurityGroup {
    return new SecurityGroup(this, 'Workers', {
      vpc,
      description: 'Workers of Transship: out to registries on any port, nobody in',
      allowAllOutbound: true,
    });
  }

  /** Gateway endpoints cost nothing, and keep archives and layers of images of this Region off the NAT gateway, which bills each GiB. */
  #addGateways(vpc: Vpc, { bucket, table, access }: NetworkProps, reachesOthers: boolean): void {
    const s3 = vpc.addGatewayEndpoint('S3', { service: GatewayVpcEndpointAwsService.S3 });
    const everybody = { principals: [new AnyPrincipal()] };
    const buckets = [bucket.bucketArn, ...access.buckets.map(({ name }) => arnOfBucket(this, name))];
    s3.addToPolicy(
      new PolicyStatement({
        sid: 'Archives',
        ...everybody,
        actions: workerActionsOn('bucket', 'uploads', 'object'),
        resources: buckets.flatMap((arn) => [arn, `${arn}/*`]),
      }),
    );
    const { region, account } = Stack.of(this);
    s3.addToPolicy(
      new PolicyStatement({
        sid: 'LayersOfEcr',
        ...everybody,
        actions: ['s3:GetObject'],
        // https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-setting-up-s3-gateway
        resources: [`${arnOfBucket(this, `prod-${region}-starport-layer-bucket`)}/*`],
      }),
    );
    if (reachesOthers) {
      s3.addToPolicy(
        new PolicyStatement({
          sid: 'LayersOfOthers',
          ...everybody,
          actions: ['s3:GetObject'],
          // quay.io, registry.k8s.io and others redirect clients to their buckets in the Region, by signed or public URLs, and may change the
          // names of these buckets at any time: https://github.com/kubernetes/registry.k8s.io#stability
          resources: [arnOfBucket(this, '*/*')],
          conditions: { StringNotEquals: { 'aws:ResourceAccount': account } },
        }),
      );
    }
    const dynamodb = vpc.addGatewayEndpoint('DynamoDb', { service: GatewayVpcEndpointAwsService.DYNAMODB });
    this.#ready.add(s3, dynamodb);
    dynamodb.addToPolicy(
      new PolicyStatement({
        sid: 'State',
        ...everybody,
        actions: workerActionsOn('table'),
        resources: [table.tableArn],
      }),
    );
  }

  /**
   * Adds the services that workers reach without leaving the VPC. Manifests, and layers that are pushed to ECR, go through `ecr.dkr`: a GiB costs
   * about a fifth of its price through NAT. https://aws.amazon.com/privatelink/pricing/, https://aws.amazon.com/vpc/pricing/
   *
   * With FIPS, the endpoints of ECR and Logs are for Fargate, which pulls the worker's image and writes its log. CDK knows no FIPS endpoints of ECR and
   * Secrets Manager for a VPC, so workers reach these through NAT.
   */
  #addInterfaces(vpc: Vpc, { access, fips }: NetworkProps): void {
    const endpoints = new SecurityGroup(this, 'Endpoints', {
      vpc,
      description: 'Endpoints of AWS: workers in',
      allowAllOutbound: false,
    });
    endpoints.addIngressRule(this.securityGroup, Port.HTTPS, 'workers');
    this.#ready.add(endpoints);
    const { ECR, ECR_DOCKER, SQS, SQS_FIPS, CLOUDWATCH_LOGS, STS, STS_FIPS, SECRETS_MANAGER } =
      InterfaceVpcEndpointAwsService;
    // in GovCloud the ordinary endpoints of SQS and STS are the FIPS ones
    const isApart = fips && !Stack.of(this).region.startsWith('us-gov-');
    const services = {
      EcrApi: ECR,
      EcrDocker: ECR_DOCKER,
      Sqs: isApart ? SQS_FIPS : SQS,
      Logs: CLOUDWATCH_LOGS,
      ...(access.roles.length === 0 ? {} : { Sts: isApart ? STS_FIPS : STS }),
      ...(access.secrets.length === 0 || fips ? {} : { Secrets: SECRETS_MANAGER }),
    };
    for (const [id, service] of Object.entries(services)) {
      const endpoint = vpc.addInterfaceEndpoint(id, {
        service,
        subnets: this.subnets,
        securityGroups: [endpoints],
        open: false,
        privateDnsEnabled: true,
      });
      this.#ready.add(endpoint);
    }
  }
}

function privateType(natGateways: number): SubnetType {
  return natGateways === 0 ? SubnetType.PRIVATE_ISOLATED : SubnetType.PRIVATE_WITH_EGRESS;
}

function subnetsOf(type: 'own' | 'public', natGateways: number): SubnetConfiguration[] {
  const open: SubnetConfiguration = { name: 'Public', subnetType: SubnetType.PUBLIC, mapPublicIpOnLaunch: false };
  if (type === 'public') return [open];
  const closed: SubnetConfiguration = { name: 'Private', subnetType: privateType(natGateways) };
  return natGateways === 0 ? [closed] : [{ ...open, cidrMask: 27 }, closed];
}

function arnOfBucket(scope: Construct, name: string): string {
  return `arn:${Stack.of(scope).partition}:s3:::${name}`;
}
