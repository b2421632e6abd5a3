/** The hidden command that the scripts of shells ask: the words so far are its arguments, the last the one to complete. */
export const ASKED = 'complete-words';
