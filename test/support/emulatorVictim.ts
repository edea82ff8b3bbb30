/** Runs the gateway's own TPM emulator in the given folder, prints the reset count, and waits to be killed. */
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { swtpmTransport } from '#drivers/tpm2/swtpm.ts';

const [stateDir = ''] = process.argv.slice(2);
const signal = new AbortController().signal;
const tpm = new Tpm(swtpmTransport(stateDir));
await tpm.startup(signal);
console.log(`resets=${(await tpm.info.readClock(signal)).resetCount};`);
setInterval(() => undefined, 60_000);
