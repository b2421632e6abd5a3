// A stand-in for the AWS provider of Terraform, for machines without access to its registry: the schema of the resources in infra/terraform, and
// stacks with the outputs that CloudFormation would make of the template. Terraform starts it and calls it by gRPC.
// https://github.com/hashicorp/terraform/blob/main/docs/plugin-protocol/tfplugin5.9.proto
import { readFileSync } from 'node:fs';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { parse } from 'yaml';
import { deploy, template } from '../deployed.ts';
import { decode, encode, UNKNOWN } from './msgpack.ts';
import { fieldsOf, message } from './protobuf.ts';

type Values = Record<string, unknown>;
type Attribute = readonly [type: unknown, use: 'required' | 'optional' | 'computed' | 'optional computed'];
type Schema = Readonly<Record<string, Attribute>>;

const STRINGS = ['map', 'string'];
const TAGS: Schema = { tags: [STRINGS, 'optional'], tags_all: [STRINGS, 'optional computed'] };
const COMMON: Schema = { id: ['string', 'computed'], region: ['string', 'optional computed'] };
/** A part of the attributes in https://registry.terraform.io/providers/hashicorp/aws/6.0.0. */
const RESOURCES: Readonly<Record<string, Schema>> = {
  aws_cloudformation_stack: {
    ...COMMON,
    ...TAGS,
    capabilities: [['set', 'string'], 'optional'],
    name: ['string', 'required'],
    outputs: [STRINGS, 'computed'],
    parameters: [STRINGS, 'optional computed'],
    template_body: ['string', 'optional computed'],
    template_url: ['string', 'optional'],
  },
  aws_s3_bucket: {
    ...COMMON,
    ...TAGS,
    arn: ['string', 'computed'],
    bucket: ['string', 'optional computed'],
    bucket_prefix: ['string', 'optional computed'],
    force_destroy: ['bool', 'optional'],
  },
  aws_s3_bucket_public_access_block: {
    ...COMMON,
    bucket: ['string', 'required'],
    block_public_acls: ['bool', 'optional'],
    block_public_policy: ['bool', 'optional'],
    ignore_public_acls: ['bool', 'optional'],
    restrict_public_buckets: ['bool', 'optional'],
  },
  aws_s3_object: {
    ...COMMON,
    ...TAGS,
    bucket: ['string', 'required'],
    etag: ['string', 'optional computed'],
    key: ['string', 'required'],
    source: ['string', 'optional'],
  },
};
const DATA: Readonly<Record<string, Schema>> = {
  aws_region: { ...COMMON },
  aws_caller_identity: { id: ['string', 'computed'], account_id: ['string', 'computed'] },
  aws_partition: { id: ['string', 'computed'], dns_suffix: ['string', 'computed'] },
};
const FACTS: Values = { id: 'here', region: 'eu-central-1', account_id: '111111111111', dns_suffix: 'amazonaws.com' };

/** Files by the URL that CloudFormation reads them from. */
const objects = new Map<string, string>();

const CALLS: Readonly<Record<string, (request: ReadonlyMap<number, Buffer>) => Buffer>> = {
  GetSchema: () =>
    message({
      1: schemaOf({ region: ['string', 'optional'] }),
      2: Object.entries(RESOURCES).map(([name, schema]) => message({ 1: name, 2: schemaOf(schema) })),
      3: Object.entries(DATA).map(([name, schema]) => message({ 1: name, 2: schemaOf(schema) })),
    }),
  PrepareProviderConfig: (request) => message({ 1: request.get(1) }),
  ValidateResourceTypeConfig: () => message({}),
  ValidateDataSourceConfig: () => message({}),
  Configure: () => message({}),
  Stop: () => message({}),
  UpgradeResourceState: (request) => {
    const json = fieldsOf(request.get(3) ?? Buffer.of()).get(1);
    return message({ 1: message({ 2: json }) });
  },
  ReadResource: (request) => message({ 1: request.get(2) }),
  ReadDataSource: (request) => {
    const schema = DATA[textOf(request, 1)] ?? {};
    return message({ 1: dynamic(Object.fromEntries(Object.keys(schema).map((name) => [name, FACTS[name]]))) });
  },
  PlanResourceChange: (request) => {
    const proposed = valueOf(request, 3);
    return message({ 1: dynamic(proposed === null ? null : planned(textOf(request, 1), proposed)) });
  },
  ApplyResourceChange: (request) => {
    const values = valueOf(request, 3);
    return message({ 1: dynamic(values === null ? null : applied(textOf(request, 1), values)) });
  },
};

function planned(kind: string, values: Values): Values {
  const computed = Object.entries(RESOURCES[kind] ?? {}).filter(([, [, use]]) => use.includes('computed'));
  const unknown = computed.filter(([name]) => values[name] === null).map(([name]) => [name, UNKNOWN] as const);
  return { ...values, ...Object.fromEntries(unknown) };
}

function applied(kind: string, values: Values): Values {
  const known: Values = { ...values };
  // a value that is known now is set, or the next plan would change it
  for (const [name, [type]] of Object.entries(RESOURCES[kind] ?? {}))
    if (known[name] === UNKNOWN) known[name] = type === 'string' ? (FACTS[name] ?? '') : {};
  if (kind === 'aws_s3_bucket') known['bucket'] = known['id'] = `${String(known['bucket_prefix'])}1`;
  if (kind === 'aws_s3_object')
    objects.set(
      `https://${String(known['bucket'])}.s3.${String(known['region'])}.amazonaws.com/${String(known['key'])}`,
      String(known['source']),
    );
  if (kind === 'aws_cloudformation_stack') known['outputs'] = outputsOf(known);
  return known;
}

function outputsOf({ parameters, template_body: body, template_url: url }: Values): Readonly<Record<string, string>> {
  const file = objects.get(String(url));
  if (file === undefined && !body) throw new Error(`there is no template at ${String(url)}`);
  const text = file === undefined ? String(body) : readFileSync(file, 'utf8');
  // https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
  if (file === undefined && text.length > 51_200) throw new Error('the template is too large for a body');
  const document = template.parse(parse(text, { version: '1.1' }));
  const given = Object.entries(Object(parameters)).map(([name, value]) => [name, String(value)] as const);
  const { outputs } = deploy(document, Object.fromEntries(given));
  // names that CloudFormation chooses
  const named = (value: unknown): string => String(value).replaceAll(/<(\w+)>/g, (_, id: string) => id.toLowerCase());
  return Object.fromEntries([...outputs].map(([name, value]) => [name, named(value)]));
}

function schemaOf(schema: Schema): Buffer {
  const attributes = Object.entries(schema).map(([name, [type, use]]) =>
    message({
      1: name,
      2: JSON.stringify(type),
      4: use === 'required',
      5: use.includes('optional'),
      6: use.includes('computed'),
    }),
  );
  return message({ 2: message({ 2: attributes }) });
}

function textOf(request: ReadonlyMap<number, Buffer>, field: number): string {
  return request.get(field)?.toString() ?? '';
}

function valueOf(request: ReadonlyMap<number, Buffer>, field: number): Values | null {
  const packed = fieldsOf(request.get(field) ?? Buffer.of()).get(1);
  const value = packed === undefined ? null : decode(packed);
  return value === null ? null : Object(value);
}

function dynamic(value: unknown): Buffer {
  return message({ 1: encode(value) });
}

/** A gRPC call: a frame of five bytes and the message, and the status in the trailers. */
function answer(stream: ServerHttp2Stream, method: string, body: Buffer): void {
  const call = CALLS[method];
  let reply: Buffer | undefined;
  let status = call === undefined ? '12' : '0';
  let reason = '';
  try {
    reply = call?.(fieldsOf(body.subarray(5)));
  } catch (error) {
    status = '2';
    reason = encodeURIComponent(String(error));
  }
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => {
    stream.sendTrailers({ 'grpc-status': status, 'grpc-message': reason });
  });
  if (reply === undefined) {
    stream.end();
    return;
  }
  const head = Buffer.alloc(5);
  head.writeUInt32BE(reply.length, 1);
  stream.end(Buffer.concat([head, reply]));
}

const server = createServer();
server.on('stream', (stream, headers) => {
  const parts: Buffer[] = [];
  const [, service = '', method = ''] = String(headers[':path']).split('/');
  if (service === 'plugin.GRPCController') process.exit(0);
  // optional services of plugins, which this one does not have
  if (service.startsWith('plugin.')) {
    answer(stream, 'none', Buffer.alloc(0));
    return;
  }
  stream.on('data', (chunk: Buffer) => parts.push(chunk));
  stream.on('end', () => {
    answer(stream, method, Buffer.concat(parts));
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('the stand-in has no port');
  // https://github.com/hashicorp/go-plugin/blob/main/docs/internals.md
  process.stdout.write(`1|5|tcp|127.0.0.1:${address.port}|grpc\n`);
});
