/** Claims and revokes gateways until it is killed, and says each one that is on disk. Argument: folder of the store. */
import { systemClock } from '#runtime/core/clock.ts';
import { Acts } from '#runtime/controller/acts.ts';
import { Register } from '#runtime/controller/register.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { candidateOf, controllerKey, ownerThumbprint } from './fleetRegister.ts';

const [dir = ''] = process.argv.slice(2);
const store = await openKeyValueStore(dir, undefined, 'keep');
const register = new Register(store, new Acts(store, controllerKey, systemClock), systemClock);
for (let at = register.size; ; at++) {
  const candidate = candidateOf(`edge-${at}`, Buffer.alloc(1_952, at));
  await register.begin({ ...candidate, spki: `${at}`.padStart(64, '0') }, ownerThumbprint);
  await register.claimed(candidate.name, candidate.claimId, ownerThumbprint);
  if (at % 2 === 1) await register.revoke(candidate.name, 'odd', ownerThumbprint);
  console.log(candidate.name);
}
