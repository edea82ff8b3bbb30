/** `node ledgerLoad.ts DIR RUN`: loads the ledger until it is killed; every acknowledged message's text goes to stdout, a line each. */
import { message, startLedger } from './ledger.ts';

const [, , dir = '', run = ''] = process.argv;
const ledger = await startLedger(dir);
let sent = 0;

function next(): void {
  const text = `run ${run} message ${sent++}`;
  ledger.accept(message('te/load', text), (error) => {
    if (error) return;
    process.stdout.write(`${text}\n`);
    setImmediate(next);
  });
}
for (let i = 0; i < 200; i++) next();
