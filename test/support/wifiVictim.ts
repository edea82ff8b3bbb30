/** Puts a network on trial and stays, to be killed: SSID in hex and passphrase are its arguments (they are secrets of a test). */
import { MachineWifi } from '#drivers/network/machineWifi.ts';

const STAYS_MS = 300_000;
const [ssid = '', passphrase = ''] = process.argv.slice(2);
process.stdout.write('trying\n');
await new MachineWifi().try({ ssid: Buffer.from(ssid, 'hex'), passphrase }, AbortSignal.timeout(STAYS_MS));
process.stdout.write('up\n');
setTimeout(() => undefined, STAYS_MS);
