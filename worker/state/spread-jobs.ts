/** How many partitions of the table the jobs of one run are spread over, beside the run's own. */
const PARTITIONS = 4;
const SPREAD = /^p([0-3])-[0-9a-f]{24}$/;

/**
 * The id of a job that is kept in one of several partitions, made of one that is the same for the same work. For jobs that a run has many of: a
 * partition takes 1,000 writes a second.
 *
 * https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
 */
export function spreadId(id: string): string {
  return `p${Number.parseInt(id.slice(0, 4), 16) % PARTITIONS}-${id}`;
}

/** Whether it is an id of `spreadId`. */
export function isSpread(id: string): boolean {
  return SPREAD.test(id);
}

/** Whether an id that begins so can be one of `spreadId`. */
export function mayBeSpread(prefix: string): boolean {
  return 'p'.startsWith(prefix.slice(0, 1));
}

/** The `pk` of a job's item, from that of its run. */
export function partitionOf(runPk: string, job: string): string {
  const partition = SPREAD.exec(job)?.[1];
  return partition === undefined ? runPk : `${runPk}#${partition}`;
}

/** Where the jobs of a run are that has jobs with such ids. */
export function partitionsOf(runPk: string): readonly string[] {
  return [runPk, ...Array.from({ length: PARTITIONS }, (_, partition) => `${runPk}#${partition}`)];
}
