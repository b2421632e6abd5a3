import type { Command } from 'commander';

/** A command line without the name of the program, and what it does. */
type Example = readonly [line: string, does: string];

interface CommandHelp {
  /** The heading that the command is listed below. */
  readonly group: string;
  readonly examples: readonly Example[];
}

const IMAGES = 'Images:';
const BACKUPS = 'Backups:';
const RULES = 'Rules on this machine:';
const SERVICE = 'The deployed system:';
const OTHERS = 'Others:';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';

/** By the name of a command; commands below another one by both names. */
const HELP: Readonly<Record<string, CommandHelp>> = {
  copy: {
    group: IMAGES,
    examples: [
      [`copy docker.io/library/alpine:3.20 ${ECR}/hub/alpine`, 'copy one image, with the same tag'],
      ["copy 'ghcr.io/team/*' registry.example/copies/", 'copy every image below team, to copies/team/…'],
      ['copy quay.io/team/app registry.example/ --semver ">=2 <3" --latest 5', 'copy the five newest versions 2'],
      ["copy --images-from list.txt registry.example/ --map 'library/*=hub/*'", 'copy a list, under other names'],
      ['copy ghcr.io/team/app:v1 oci-archive:app.tar', 'write one image to a file'],
    ],
  },
  inspect: {
    group: IMAGES,
    examples: [
      ['inspect docker.io/library/alpine:3.20', 'show platforms, labels, layers and signatures of an image'],
      ['inspect s3://bucket/team/app/v1.tar --json', 'show the same of an archive, as JSON'],
      ['inspect ghcr.io/team/app:v1 --raw', 'print the manifest, whose sha256 is the digest'],
    ],
  },
  list: {
    group: IMAGES,
    examples: [
      ['list registry.example/team/*', 'list the images of a registry'],
      ['list store:s3://bucket/backups/ --as-of 2026-05-31', 'list what a backup had on a day'],
    ],
  },
  stats: {
    group: IMAGES,
    examples: [[`stats ${ECR}`, 'count bytes, and what a store would save']],
  },
  diff: {
    group: IMAGES,
    examples: [
      [`diff registry.example ${ECR}/copies --map '*=copies/*'`, 'find what a mirror lacks'],
      ['diff registry.example store:s3://bucket/backups/', 'find what is not backed up'],
    ],
  },
  verify: {
    group: IMAGES,
    examples: [
      ['verify store:s3://bucket/backups/ --deep', 'read and hash every byte of a backup'],
      ['verify store:s3://bucket/backups/ --sample 5% --record', 'read another part each day, and record it'],
      ['verify store:s3://bucket/backups/ --restore-to registry.example/drills', 'prove that images can be restored'],
    ],
  },
  publish: {
    group: IMAGES,
    examples: [[`publish s3://bucket/models/ ${ECR}/models`, 'store objects of S3 as OCI artifacts']],
  },
  extract: {
    group: IMAGES,
    examples: [[`extract ${ECR}/models ./models`, 'write the newest published snapshot to a folder']],
  },
  login: {
    group: IMAGES,
    examples: [
      ['login ghcr.io', 'log in, and be asked for the name and the password'],
      ['login ghcr.io -u ann --password-stdin < token', 'log in with a token in a file'],
    ],
  },
  logout: { group: IMAGES, examples: [['logout ghcr.io', 'remove the credentials that a login stored']] },
  backup: {
    group: BACKUPS,
    examples: [
      [`backup ${ECR} store:s3://bucket/backups/`, 'back up a whole registry, each blob once'],
      ["backup 'registry.example/product/*' s3://bucket/archives/", 'write an archive for each image'],
      ["backup 'registry.example/product/*' store:product.tar", 'write a store in one file, for an air gap'],
    ],
  },
  snapshots: {
    group: BACKUPS,
    examples: [
      ['snapshots list store:s3://bucket/backups/ --latest 5', 'list the newest snapshots'],
      ['snapshots diff store:s3://bucket/backups/ latest now', 'show what changed since the last backup'],
    ],
  },
  'snapshots list': {
    group: BACKUPS,
    examples: [['snapshots list store:s3://bucket/backups/ --latest 5', 'list the newest snapshots']],
  },
  'snapshots show': {
    group: BACKUPS,
    examples: [['snapshots show store:s3://bucket/backups/ latest', 'show what the last backup recorded']],
  },
  'snapshots diff': {
    group: BACKUPS,
    examples: [['snapshots diff store:s3://bucket/backups/ latest now', 'show what changed since the last backup']],
  },
  report: {
    group: BACKUPS,
    examples: [['report store:s3://bucket/backups/ --html report.html', 'write a page about the backups of a place']],
  },
  restore: {
    group: BACKUPS,
    examples: [
      [`restore store:s3://bucket/backups/ ${ECR} --dry-run`, 'show what a restore of a registry would send'],
      [`restore store:s3://bucket/backups/ ${ECR} --as-of 2026-05-31 --only 'team/*'`, 'bring back a part of a day'],
      ['restore s3://bucket/archives/team/app/v1.tar registry.example/team/app:v1', 'put one archive back'],
    ],
  },
  serve: {
    group: BACKUPS,
    examples: [['serve store:s3://bucket/backups/', 'let docker and Kubernetes pull from a backup']],
  },
  prune: {
    group: BACKUPS,
    examples: [
      [`prune '${ECR}/ci/*' --keep-last 20 --untagged-after-days 7`, 'print what would be deleted'],
      [`prune '${ECR}/ci/*' --keep-last 20 --untagged-after-days 7 --yes`, 'delete it'],
      ['prune store:s3://bucket/backups/ --keep-daily 14 --keep-monthly 12', 'delete old snapshots of a store'],
    ],
  },
  init: {
    group: RULES,
    examples: [
      ['init', 'ask for a registry and a place, and write rules.yaml'],
      ["init --registry 'ghcr.io/team/*' --place store:s3://bucket/backups/", 'write it without asking'],
    ],
  },
  sync: {
    group: RULES,
    examples: [
      ['sync -f rules.yaml --dry-run', 'show what the rules would copy'],
      ['sync -f rules.yaml --rule base-images', 'run one rule now'],
    ],
  },
  import: {
    group: RULES,
    examples: [['import regsync regsync.yml > rules.yaml', "make a rules file from another tool's file"]],
  },
  'import cuppett': {
    group: RULES,
    examples: [['import cuppett > rules.yaml', 'make a rules file from the table of aws-ecr-mirror']],
  },
  'import skopeo-sync': {
    group: RULES,
    examples: [['import skopeo-sync sync.yml --to registry.example/copies > rules.yaml', 'read a file of skopeo sync']],
  },
  'import regsync': { group: RULES, examples: [['import regsync regsync.yml > rules.yaml', 'read a file of regsync']] },
  'import dregsy': { group: RULES, examples: [['import dregsy dregsy.yaml > rules.yaml', 'read a file of dregsy']] },
  'import image-syncer': {
    group: RULES,
    examples: [['import image-syncer images.yaml --auth auth.yaml > rules.yaml', 'read files of image-syncer']],
  },
  apply: {
    group: SERVICE,
    examples: [
      ['apply -f rules.yaml --dry-run', 'show how the stored rules differ from a file'],
      ['apply -f rules.yaml', 'make them those of the file'],
    ],
  },
  rules: { group: SERVICE, examples: [['rules list', 'list the stored rules and when each runs next']] },
  'rules list': { group: SERVICE, examples: [['rules list', 'list the stored rules and when each runs next']] },
  'rules show': { group: SERVICE, examples: [['rules show base-images', 'print one rule as it is stored']] },
  'rules delete': { group: SERVICE, examples: [['rules delete base-images', 'delete a rule; what it wrote stays']] },
  enqueue: {
    group: SERVICE,
    examples: [
      ['enqueue base-images --wait', 'run a rule now, and wait for its end'],
      [`enqueue docker.io/library/alpine:3.20 ${ECR}/hub/alpine`, 'ask for one copy'],
      [`enqueue 'registry.example/team/*' ${ECR}/ --latest 3`, 'ask for the newest versions of many images'],
    ],
  },
  status: { group: SERVICE, examples: [['status --json', 'print rules, runs, the queue and dead letters as JSON']] },
  scale: {
    group: SERVICE,
    examples: [
      ['scale', 'show how many workers run, and on which capacity'],
      ['scale 8 --on-demand', 'start eight on-demand workers now, for a restore in a disaster'],
    ],
  },
  cost: {
    group: SERVICE,
    examples: [
      ['cost -f transship.infra.yaml', 'estimate a deployment before there is one'],
      [`cost -f transship.infra.yaml --registry ${ECR}`, 'count what a registry has, and estimate from that'],
    ],
  },
  redrive: { group: SERVICE, examples: [['redrive --rule base-images', 'put the dead letters of a rule back']] },
  worker: { group: SERVICE, examples: [['worker --slots 4', 'do four jobs at once, until it is stopped']] },
  planner: { group: SERVICE, examples: [['planner --once', 'plan the rules that are due']] },
  cleaner: { group: SERVICE, examples: [['cleaner --once', 'run the prune rules that are due']] },
  completion: {
    group: OTHERS,
    examples: [['completion zsh > ~/.zfunc/_transship', 'install completion for zsh']],
  },
  local: { group: OTHERS, examples: [['local', 'start it, and print the environment for other commands']] },
  demo: { group: OTHERS, examples: [['demo', 'watch a registry being backed up, lost and restored']] },
};

/** Lists the commands of the program by groups, and ends the help of each with its examples. */
export function addHelp(root: Command): void {
  const help = root.createCommand('help').argument('[command]').helpOption(false).helpGroup(OTHERS);
  root.addHelpCommand(help.description('display help for a command'));
  for (const command of root.commands) {
    describe(command, command.name());
    for (const below of command.commands) describe(below, `${command.name()} ${below.name()}`);
  }
}

function describe(command: Command, name: string): void {
  const help = Object.hasOwn(HELP, name) ? HELP[name] : undefined;
  if (!name.includes(' ')) command.helpGroup(help?.group ?? OTHERS);
  if (help === undefined) return;
  const lines = help.examples.map(([line, does]) => `  # ${does}\n  transship ${line}`);
  command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
}
