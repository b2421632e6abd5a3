/** How many partitions of the table the jobs of one run are spread over, beside the run's own. */
const PARTITIONS = 4;
const SPREAD = /^p([0-3])-[0-9a-f]{24}$/;

/**
 * Makes the id of a job that is kept in one of several partitions, from the id that follows from its work. For kinds of jobs that a run may have
 * many thousands of: a partition takes 1,000 writes a second.
 *
 * https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
 */
export function spreadId(id: string): string {
  return `p${Number.parseInt(id.slice(0, 4), 16) % PARTITIONS}-${id}`;
}

/** Whether `spreadId` made this id. */
export function isSpread(id: string): boolean {
  return SPREAD.test(id);
}

/** Whether `spreadId` may have made an id that begins with `prefix`. */
export function mayBeSpread(prefix: string): boolean {
  return 'p'.startsWith(prefix.slice(0, 1));
}

/** The `pk` of a job's item, from the `pk` of its run. */
export function partitionOf(runPk: string, job: string): string {
  const partition = SPREAD.exec(job)?.[1];
  return partition === undefined ? runPk : `${runPk}#${partition}`;
}

/** Every `pk` under which a run with spread jobs may have jobs: its own, and one for each partition. */
export function partitionsOf(runPk: string): readonly string[] {
  return [runPk, ...Array.from({ length: PARTITIONS }, (_, partition) => `${runPk}#${partition}`)];
}
