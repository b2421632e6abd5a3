import { ecrHost } from '../oci/ecr-host.ts';
import { stringify } from 'yaml';

/** What a person answers before there is a rules file. */
export interface FirstRulesRequest {
  /** The registries, repositories or patterns that are copied, as `from` in a rule; one at least. */
  readonly from: readonly string[];
  /** Where it is copied to: a store or `s3://` for a backup, a registry for a mirror. */
  readonly to: string;
  /** Cron with five fields, in UTC. Default: every night at 02:00. */
  readonly schedule?: string | undefined;
}

/**
 * The text of a rules file with one rule and with comments that explain what can be added. The answers are written as they
 * are: `parseConfig` decides whether they can be used.
 */
export function firstRules({ from, to, schedule = '0 2 * * *' }: FirstRulesRequest): string {
  const sources = from.map((one) => one.replace(/^docker:\/\//, ''));
  const target = to.replace(/^docker:\/\//, '');
  const isEcr = sources.some((source) => ecrHost(source.split('/')[0] ?? '') !== undefined);
  const lines = isBackup(target) ? backupRule(sources, target) : mirrorRule(sources, target);
  return [
    ...HEAD,
    ...lines,
    '    # minute, hour, day of the month, month and day of the week, in UTC',
    `    schedule: ${scalar(schedule)}`,
    ...(isEcr
      ? [
          '    # an image is also copied after its push: within a minute while a worker runs, otherwise within five',
          '    on: push',
        ]
      : ['    # Amazon ECR alone reports pushes: `on: push` needs a source there']),
    ...(isBackup(target) ? checkedBackup(target) : []),
    '',
  ].join('\n');
}

const HEAD = [
  '# What Transship copies and when. docs/configuration.md explains every key.',
  '#',
  '#   transship sync -f FILE --dry-run     compares, and prints what would be copied',
  '#   transship sync -f FILE               copies it, here and now',
  '#   transship apply -f FILE              makes these the rules of the deployed system',
  'version: 1',
  '',
  '# Registries that need other credentials than `docker login` wrote and than the AWS SDK finds:',
  '# registries:',
  '#   registry.example:',
  '#     secret: arn:aws:secretsmanager:us-east-1:111111111111:secret:registry-example-AbCdEf',
  '',
  'rules:',
];

const TAGS = [
  '      # Without `tags` every tag is copied. To choose some:',
  '      # tags: { include: ["v*"], exclude: ["*-rc*"], latest: 20 }',
];

function backupRule(sources: readonly string[], target: string): readonly string[] {
  return [
    '  - name: backup',
    '    backup:',
    '      # a whole registry that lists its repositories, a repository, or a pattern such as HOST/team/*',
    ...fromLines(sources),
    '      # store:s3://bucket/prefix/ keeps each layer once; s3://bucket/prefix/ keeps one tar for each image',
    `      to: ${scalar(target)}`,
    '      # a page about all backups, beside the snapshots',
    '      report: true',
    ...TAGS,
  ];
}

function mirrorRule(sources: readonly string[], target: string): readonly string[] {
  return [
    '  - name: mirror',
    '    mirror:',
    '      # a repository, or a pattern such as HOST/team/* of a registry that lists its repositories',
    ...fromLines(sources),
    '      # {repository} stands for the name of the repository at the source',
    `      to: ${scalar(target.includes('{') ? target : `${target.replace(/\/+$/, '')}/{repository}`)}`,
    ...TAGS,
    '      # Without `platforms` every platform is copied. Fewer platforms give the index another digest:',
    '      # platforms: [linux/amd64, linux/arm64]',
  ];
}

function fromLines([only = '', ...others]: readonly string[]): readonly string[] {
  if (others.length === 0) return [`      from: ${scalar(only)}`];
  return ['      from:', ...[only, ...others].map((one) => `        - ${scalar(one)}`)];
}

/** A rule that reads the backup, and one that thins it out, which is a comment because it deletes. */
function checkedBackup(target: string): readonly string[] {
  // archives are below the part of their template that is the same for all
  const place = `${target.replace(/[^/]*\{.*$/, '').replace(/\/+$/, '')}/`;
  return [
    '',
    '  # reads a twentieth of the backup each day, so that everything is read in twenty days',
    '  - name: verify',
    '    verify:',
    `      at: ${scalar(place)}`,
    '      depth: bytes',
    '      sample: 5%',
    '    schedule: 0 4 * * *',
    '',
    '  # Old backups thin out with age. With `dryRun: true` nothing is deleted, and the log lists what would be.',
    '  # - name: prune',
    '  #   prune:',
    `  #     at: ${scalar(place)}`,
    '  #     keepDaily: 14',
    '  #     keepWeekly: 8',
    '  #     keepMonthly: 12',
    '  #     dryRun: true',
    '  #   schedule: 0 6 * * *',
  ];
}

function isBackup(target: string): boolean {
  return /^(?:store:|s3:\/\/)/.test(target);
}

/** As YAML writes it on one line, in quotes where it needs them. */
function scalar(text: string): string {
  return stringify(text, { lineWidth: 0 }).trimEnd();
}
