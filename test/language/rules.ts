// The words that this project replaces, and what to write instead.
import type { Kind } from './texts.ts';

/** One habit of wording that a reader stumbles over. */
export interface WordRule {
  readonly pattern: RegExp;
  /** What to write instead. */
  readonly write: string;
  /** The kinds of text that it is about; every kind if absent. */
  readonly kinds?: readonly Kind[];
}

/** Participles after which `has not` is the perfect tense: those that do not end in -ed. */
const PARTICIPLES =
  'been|yet|already|begun|bought|built|come|cut|done|drawn|fallen|found|given|gone|got|grown|had|held|hit|kept|known|left|let|lost|' +
  'made|met|paid|put|read|risen|run|seen|sent|set|shown|split|spoken|spread|stood|taken|thrown|understood|won|written';

/** After these, `who` is a person: a relative clause about people, or a question about them, as in a heading. */
const OF_PEOPLE =
  'people|person|users?|readers?|reviewers?|maintainers?|auditors?|attackers?|operators?|someone|anyone|everyone|asks?|proves?|shows?|knows?|see';
/** After these, `behind` means what remains, or being late. */
const LEFT_BEHIND =
  '(?:left|leaves?|leaving|stays?|stayed|falls?|fell|lags?)(?: nothing| anything| something| it| them| (?:no|its|a|an|the) \\w+)?';

export const WORD_RULES: readonly WordRule[] = [
  rule('told|tells?|telling|says', 'report, print, log or return: a program does not speak'),
  rule('nobody|somebody|whoever', 'name it: no worker, another process, the caller that …'),
  rule(`(?<!\\b(?:${OF_PEOPLE}) |# |# \\d+\\. )who`, 'that, or name it: the worker that …'),
  rule('(?:comes?|came|coming) (?:again|back)', 'is redelivered, returns'),
  rule('(?:is|are|was|were|be) none', 'does not exist'),
  rule('(?:has|have|had|knows?|knew) none', 'does not have'),
  rule(`(?:has|have|had) not(?! (?:${PARTICIPLES}|\\w+ed)\\b)`, 'does not have'),
  rule(`(?<!\\b${LEFT_BEHIND} )behind(?! (?:an?|the|its?|your|them|one)\\b)`, 'after'),
  rule('in the way', 'still held, already running'),
  rule('(?:is|are|was|were|be)(?: still| already)? at it', 'already running'),
  rule('lives', 'is running, is in'),
  rule('dies?|died|buried', 'crashed, was stopped; is dead-lettered'),
  rule('(?:is|are|was|were) to be', 'an instruction: Set …; or work, the plan'),
  rule('for good(?! reasons?)', 'permanently'),
  rule('a text(?! file)', 'a string'),
  rule('mend(?:s|ed|ing)?', 'fix'),
  rule('ticks?', 'a scheduled time, or a pass of the planner'),
  { pattern: /^\W*Of\b/g, write: 'a sentence with its subject first: For ECR, …; The blob’s …', kinds: ['comment'] },
  { pattern: /^that /g, write: 'a title that completes the sentence “It …”', kinds: ['title'] },
];

function rule(words: string, write: string): WordRule {
  // a text may break its lines at any space
  return { pattern: new RegExp(`\\b(?:${words.replaceAll(' ', '\\s+')})\\b`, 'gi'), write };
}
