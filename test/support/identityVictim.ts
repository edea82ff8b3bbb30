/** Makes or changes keys in a process of its own, and kills it at one of the writes: `identityVictim.ts DATA_DIR TPM make|rotate WRITE`; `-` as WRITE lets it end. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { Tpm } from '#drivers/tpm2/tpm.ts';
import { socketTransport } from '#drivers/tpm2/transport.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { IdentityFiles } from '#provisioning/identity/files.ts';
import { IdentityKeeper } from '#provisioning/identity/keeper.ts';
import { systemClock } from '#runtime/core/clock.ts';

const [, , dataDir = '', address = '', what = '', killAt = '-'] = process.argv;
const never = new AbortController().signal;
await using tpm = new Tpm(socketTransport(address));
let writes = 0;
const keeper = new IdentityKeeper({
  files: new IdentityFiles(dataDir), vault: { kind: 'value', value: openVault(tpm) }, ownsTpm: true, node: 'victim', pcrs: [0, 7], policyOf: bootPolicy,
  chainHasBegun: () => existsSync(join(dataDir, 'identity.seed')), clock: systemClock,
  onWrite: (name) => {
    writes += 1;
    if (killAt === String(writes)) process.kill(process.pid, 'SIGKILL');
    process.stdout.write(`${name}\n`);
  },
});
if (what === 'rotate') {
  await keeper.prepareNext({ keep: false }, never);
  await keeper.commitNext(never);
}
const { signer } = await keeper.keys(never);
process.stdout.write(`key ${Buffer.from(signer.publicKey).toString('hex').slice(0, 64)}\n`);
