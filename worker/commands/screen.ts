/** Where text goes: a terminal, a pipe, or a test's buffer. */
export interface Screen {
  write(text: string): void;
  readonly terminal: boolean;
  /** Characters a line holds now: a terminal may be resized. */
  readonly columns: number;
  /** Lines that are seen at once. Default: as many as there are. */
  readonly rows?: number | undefined;
  /** Whether outcomes have colours. Default false. */
  readonly colour?: boolean;
}
