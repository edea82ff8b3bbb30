/** Seals a genesis and two blocks and kills itself, −9, at the given point of the third block's procedure. Arguments: data directory, TPM address, step, edge. */
import { openSealing, NEVER } from './sealHarness.ts';

const [dataDir = '', tpmAddress = '', step = '', edge = ''] = process.argv.slice(2);
let armed = false;
await using sealing = await openSealing(dataDir, tpmAddress, {
  onStep: (at, when) => { if (armed && at === step && when === edge) process.kill(process.pid, 'SIGKILL'); },
});
await sealing.append();
await sealing.sealer.seal({}, NEVER);
await sealing.append();
armed = true;
await sealing.sealer.seal({ counter: true }, NEVER);
console.log('survived');
