/** A use of a replaced word that is right where it stands. */
export interface Exception {
  readonly file: string;
  /** The words around it, as they stand in the file. */
  readonly words: string;
  readonly reason: string;
}

/** At most ten. The check reports one that is no longer used. */
export const EXCEPTIONS: readonly Exception[] = [];

/**
 * The folders and files that still have such words. It only becomes shorter: the check reports an entry that is clean,
 * and every file that is not below an entry has to be.
 */
export const STILL_TO_BE_EDITED: readonly string[] = [
  '.ci/run',
  'CHANGELOG.md',
  'docs/deployment.md',
  'docs/runbook.md',
  'infra/backup',
  'infra/examples',
  'infra/monitoring',
  'infra/registries',
  'infra/service',
  'infra/settings',
  'infra/synth',
  'test/infra',
];
