// Runs the demo in a terminal of tmux and writes docs/demo.svg: what that terminal shows at the end.
//   npm run demo:picture [-- COLUMNS ROWS]
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { terminalPicture } from './terminal-picture.ts';

const [columns = '110', rows = '48'] = process.argv.slice(2);
// a server of its own, without the settings of the user
const server = ['-L', `transship-demo-${process.pid}`, '-f', '/dev/null'];
const tmux = (...args: readonly string[]): string =>
  execFileSync('tmux', [...server, ...args], { encoding: 'utf8' }).trimEnd();

const here = `tmux ${server.slice(0, 2).join(' ')}`;
// the shell waits after the demo, so that its last screen can be read
const command = `'${process.execPath}' local/cli.ts demo; ${here} set-option -g @status $?; ${here} wait-for -S ended; sleep 60`;
tmux('new-session', '-d', '-x', columns, '-y', rows, command);
try {
  tmux('wait-for', 'ended');
  const screen = tmux('capture-pane', '-e', '-p');
  const status = tmux('show-option', '-gv', '@status');
  if (status !== '0') throw new Error(`the demo exited with ${status}:\n${screen}`);
  writeFileSync('docs/demo.svg', terminalPicture(['$ npm run demo', '…', ...screen.split('\n')], 'npm run demo'));
} finally {
  tmux('kill-server');
}
