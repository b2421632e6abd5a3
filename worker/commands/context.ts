import type { Command } from 'commander';
import type { Backends } from '../images/backends.ts';
import type { DeletingBackends } from '../images/deletions.ts';
import type { Service } from '../service/service.ts';
import type { Access } from '../rules/rule.ts';
import type { StateStore } from '../state/state.ts';
import type { ItemAttribute } from '../state/table-items.ts';
import type { Clock } from '../util/clock.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import { withoutOwnSecrets } from '../util/own-secrets.ts';
import { inGroup } from './help.ts';
import { fitted, lookOf, paintedLines, type Look } from './look.ts';
import { startProgress, type Progress } from './progress.ts';
import type { Screen } from './screen.ts';

/** How to reach the backends of one command: what its flags say about credentials and creating. */
export interface ConnectOptions {
  readonly source?: SideOptions | undefined;
  readonly target?: SideOptions | undefined;
  /** How registries are reached, by host, where `source` and `target` do not say. Default: with what this process has. */
  readonly access?: Access | undefined;
  /** Whether missing repositories of ECR are created. Default true. */
  readonly create?: boolean | undefined;
  /** Settings of created repositories, as `repository.json` has them. Default: as ECR has it. */
  readonly createSettings?: Readonly<Record<string, unknown>> | undefined;
  /** Which keys sign snapshots and are trusted to. Default: none. */
  readonly snapshotKeys?: KeyFlags | undefined;
  /** How buckets are reached, and how objects are stored in them. */
  readonly s3?: S3Options | undefined;
  /** Blobs at once. Default 4. */
  readonly concurrency?: number | undefined;
  readonly report: Progress['report'];
}

/** Flags about signatures of snapshots. */
export interface KeyFlags {
  /** The key of AWS KMS that signs what is written: `alias/NAME`, its id or its ARN. */
  readonly signWith?: string | undefined;
  /** What is read must be signed by this key: of AWS KMS as above, or a file with a public key in PEM. */
  readonly verifyKey?: string | undefined;
}

export interface SideOptions {
  /** `user:password`. */
  readonly credentials?: string | undefined;
  readonly authFile?: string | undefined;
  readonly assumeRole?: string | undefined;
  readonly externalId?: string | undefined;
  /** Whether certificates of registries are checked. Default true. */
  readonly tlsVerify?: boolean | undefined;
  /** Whether registries are reached by plain HTTP. Default: on loopback only. */
  readonly plainHttp?: boolean | undefined;
}

/** The flags of a command about buckets. The environment supplies those that are absent. */
interface S3Options {
  /** Whether buckets are addressed by path instead of by host name. */
  readonly pathStyle?: boolean | undefined;
  /** Whether writes carry no conditions: the last of two writers wins. */
  readonly noConditions?: boolean | undefined;
  /** The KMS key that encrypts what is written. */
  readonly kmsKeyId?: string | undefined;
  /** Whether the caller pays for requests to buckets of the kind "requester pays". */
  readonly requesterPays?: boolean | undefined;
}

/** Credentials to check and to store. */
export interface LoginRequest {
  readonly host: string;
  readonly username: string;
  readonly password: string;
  /** The file for them. Default: that of docker, or the one that the environment names. */
  readonly authFile?: string | undefined;
  readonly tlsVerify?: boolean | undefined;
  readonly plainHttp?: boolean | undefined;
}

/** Where credentials are stored: in the file, or with the helper that it names. */
interface CredentialPlace {
  readonly file: string;
  readonly helper?: string | undefined;
}

/** This program once more, as a process of its own. */
export interface StartedProgram {
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
  /** Its exit code; undefined when a signal ended it. */
  readonly ended: Promise<number | undefined>;
}

/** What a command gets from the program around it. */
export interface CommandContext {
  /** Backends with these options; closing them closes every connection. */
  connect(options: ConnectOptions): Backends & AsyncDisposable;
  /** As `connect`, for commands that delete. */
  connectDeleting(options: ConnectOptions): DeletingBackends & AsyncDisposable;
  /**
   * The queues and the table that the environment names; closing them closes every connection. No request is sent yet. INVALID, naming what is
   * missing, where the environment names none.
   */
  connectService(options?: { readonly report?: Report | undefined }): Service & AsyncDisposable;
  /** The table that the environment names, without queues. INVALID where it names none. */
  connectState(options?: { readonly report?: Report | undefined }): StateStore & AsyncDisposable;
  /** The hosts of registries that this process has credentials or an address for. */
  knownRegistries(): Promise<readonly string[]>;
  /** Every item of any table of DynamoDB, as `tableItems` reads it. */
  tableItems(table: string): AsyncIterable<Readonly<Record<string, ItemAttribute>>>;
  /**
   * Runs the jobs of the queue, `slots` at once (default: the setting in the environment), until the signal fires and the jobs under way were
   * returned to the queue. Logs and metrics go to stdout. INVALID where the environment does not name the deployed system.
   */
  runWorker(options: { readonly slots?: number | undefined; readonly large?: boolean | undefined }): Promise<void>;
  /** Looks again and again which rules are due, until the signal fires. Logs and metrics go to stdout. INVALID as `runWorker`. */
  runPlanner(options: { readonly everySeconds: number }): Promise<void>;
  /** Looks again and again which rules that prune are due, until the signal fires. Logs and metrics go to stdout. INVALID without a table. */
  runCleaner(options: { readonly everySeconds: number }): Promise<void>;
  /**
   * Stores credentials that the registry takes. `checked`: the registry asked for them; `hidden`: another file has others,
   * which are used first. UNAUTHENTICATED where it refuses them; nothing is stored then.
   */
  login(request: LoginRequest): Promise<CredentialPlace & { readonly checked: boolean; readonly hidden: boolean }>;
  /** Removes stored credentials, and returns from where. */
  logout(request: Pick<LoginRequest, 'host' | 'authFile'>): Promise<readonly CredentialPlace[]>;
  /** All of standard input as text. INVALID for a terminal, and for more than `mostBytes`. */
  standardInput(mostBytes: number): Promise<string>;
  /** Starts this program with these arguments and the environment as it is. It ends with the signal at the latest. */
  start(args: readonly string[], options: { readonly onLine: (line: string) => void }): StartedProgram;
  /** Sets variables of the environment for what is connected from now on. */
  setEnvironment(variables: Readonly<Record<string, string>>): void;
  readonly signal: AbortSignal;
  /** Blobs at once, where the environment sets it. */
  readonly concurrency: number | undefined;
  /** How often a planner asks for each tag of a destination in a registry other than ECR. */
  readonly lookEveryHours: number;
  readonly clock: Clock;
  readonly stdout: Screen;
  readonly stderr: Screen;
  /** Asks the person at the terminal and returns the line that was typed, which `hidden` does not show; undefined without a terminal. */
  readonly ask: ((question: string, options?: { readonly hidden?: boolean }) => Promise<string>) | undefined;
  /** The version of this program. */
  readonly version: string;
  /** Sets the exit code 1. Thrown failures set their own code. */
  exit(code: 1): void;
  /** Sets the exit code 3 for what was found, and prints `reason` at the end. */
  exit(code: 3, reason: string): void;
}

/** Flags that every command has. */
export interface CommonFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly progress?: boolean;
  readonly wide?: boolean;
}

/** Adds the flags that every command has. */
export function withCommonFlags(command: Command): Command {
  return inGroup(command, 'Output:', (grouped) =>
    grouped
      .option('--json', 'the result as one JSON document on stdout, events as JSON lines on stderr')
      .option('-q, --quiet', 'only warnings and failures, and what was asked for')
      .option('-v, --verbose', 'also each blob, manifest and tag, what was there already, and every retry')
      .option('--wide', 'whole tables on a terminal, also where they are wider than it')
      .option('--no-progress', 'lines instead of progress bars'),
  );
}

function progressOf(context: CommandContext, flags: CommonFlags): Progress {
  const bars = context.stderr.terminal && flags.progress !== false;
  const style = flags.json === true ? 'json' : flags.quiet === true ? 'none' : bars ? 'bars' : 'lines';
  return startProgress(context.stderr, { clock: context.clock, style, verbose: flags.verbose === true });
}

/** Runs `work` with progress shown, which is gone again when `work` ends, however it ends. */
export async function withProgress<T>(
  context: CommandContext,
  flags: CommonFlags,
  work: (progress: Progress) => Promise<T>,
): Promise<T> {
  const progress = progressOf(context, flags);
  try {
    return await work(progress);
  } finally {
    await progress.stop();
  }
}

/** An answer on stdout: as JSON when asked, as text otherwise. */
export function printResult(
  context: CommandContext,
  flags: CommonFlags,
  result: unknown,
  text: (look: Look) => string,
): void {
  const look = lookOf(context.stdout, flags);
  printDocument(context, flags, result, () => paintedLines(fitted(text(look), look), look));
}

/** As `printResult`, for output that programs read too, such as YAML: it is written unchanged. */
export function printDocument(context: CommandContext, flags: CommonFlags, result: unknown, text: () => string): void {
  context.stdout.write(`${flags.json === true ? JSON.stringify(result, jsonValue, 2) : text()}\n`);
}

/** What a command did, on stdout. With --quiet nothing: its failures were reported as warnings while it ran. A dry run is an answer. */
export function printOutcome(
  context: CommandContext,
  flags: CommonFlags & { readonly dryRun?: boolean },
  result: unknown,
  text: (look: Look) => string,
): void {
  if (flags.quiet === true && flags.json !== true && flags.dryRun !== true) return;
  printResult(context, flags, result, text);
}

/** A part of a result as JSON, on one line. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, jsonValue);
}

function jsonValue(_: string, value: unknown): unknown {
  if (typeof value === 'string') return withoutOwnSecrets(value);
  return isFailure(value) ? { code: value.code, message: describeFailure(value) } : value;
}
