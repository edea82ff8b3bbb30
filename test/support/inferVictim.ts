/** Records readings of three motors and judges them until it is killed; prints a line when it has begun to judge. Argument: data directory. */
import { setImmediate as turn } from 'node:timers/promises';
import { motorReadings, startGateway } from './inferHarness.ts';

const [dataDir = ''] = process.argv.slice(2);
const gateway = await startGateway(dataDir);
const motors = ['one', 'two', 'three'].map((name, i) => motorReadings(`device/${name}//`, 70 + i));
for (let i = 0, told = false; ; i++) {
  const motor = motors[i % motors.length];
  if (motor) await gateway.ledger.append(motor(0));
  await turn();
  if (!told && (gateway.inference.status()[0]?.inferences ?? 0) > 0) {
    told = true;
    console.log('judging');
  }
}
