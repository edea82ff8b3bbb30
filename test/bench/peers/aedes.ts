/** Bare aedes as its documentation sets it up: no path behind it, nothing stored. Prints its port when it listens. */
import { createServer, type AddressInfo } from 'node:net';
import { Aedes } from 'aedes';

const broker = await Aedes.createBroker();
const server = createServer((socket) => { broker.handle(socket); });
server.listen(0, '127.0.0.1', () => { console.log(`port ${(server.address() as AddressInfo).port}`); });
process.once('SIGTERM', () => { process.exit(0); });
