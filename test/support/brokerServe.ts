/** A broker in a process of its own, to be killed: `node brokerServe.ts DIR` prints its port. */
import { openTestBroker } from './brokerHarness.ts';

const { port } = await openTestBroker({ dir: process.argv[2] ?? '' });
process.stdout.write(`${port}\n`);
