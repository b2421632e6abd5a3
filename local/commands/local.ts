import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { MAX_PORT, startStack } from '../stack.ts';
import type { CommandContext } from '../../worker/commands/context.ts';

interface LocalFlags {
  readonly dir?: string;
  readonly port?: number;
  readonly json?: boolean;
}

/** Adds the command `local`. */
export function addLocal(program: Command, context: CommandContext): void {
  program
    .command('local')
    .summary('run an S3, SQS, DynamoDB, two ECRs and a registry on this machine')
    .description(
      'Runs an S3 server, SQS queues, a DynamoDB table, two registries that behave as Amazon ECR does, and a plain OCI registry, on 127.0.0.1, until it is interrupted. Prints the environment that other commands need to use them, and TRANSSHIP_LOCAL_PID, the process to end.',
    )
    .option(
      '--dir <folder>',
      'keep everything but the queues in this folder, for the next run (default: a temporary one)',
    )
    .addOption(
      new Option(
        '--port <n>',
        'the ports: S3 n, SQS n+1, DynamoDB n+2, first ECR n+3, second ECR n+4, OCI registry n+5, API of both ECRs n+6, layers of the first ECR n+7, of the second n+8 (default: ports that are free)',
      ).argParser(parsePort),
    )
    .option('--json', 'the environment as JSON')
    .action(async (flags: LocalFlags) => {
      const folder = flags.dir ?? (await mkdtemp(join(tmpdir(), 'transship-local-')));
      try {
        await using stack = await startStack({ folder, port: flags.port, pushEvents: true });
        // npx does not pass a signal on to what it runs, so a script that stops this needs the process id
        const environment = { ...stack.environment, TRANSSHIP_LOCAL_PID: String(process.pid) };
        context.stdout.write(
          flags.json === true
            ? `${JSON.stringify(environment)}\n`
            : `${Object.entries(environment)
                .map(([name, value]) => `export ${name}='${value}'`)
                .join('\n')}\n`,
        );
        context.stderr.write(
          `S3 bucket s3://${stack.bucket}, queue ${stack.queueUrl}, table ${stack.table}, registries ${stack.ecr.registryHost}, ${stack.otherEcr.registryHost} and ${stack.registry.host}; stop with Ctrl-C or kill ${process.pid}\n`,
        );
        // it may have been interrupted while it started
        if (!context.signal.aborted) await once(context.signal, 'abort');
      } finally {
        if (flags.dir === undefined) await rm(folder, { recursive: true, force: true });
      }
    });
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^[0-9]+$/.test(text) && port >= 1 && port <= MAX_PORT) return port;
  throw new InvalidArgumentError(`expected a whole number from 1 to ${MAX_PORT}.`);
}
