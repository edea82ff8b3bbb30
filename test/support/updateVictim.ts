/** A process that installs a bundle, to be killed at it: `updateVictim.ts DATA_DIR URL PLACES`, the last as JSON. Says `installing` when it has begun. */
import { RaucSlots, type RaucPlaces } from '#drivers/slots/rauc.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { installBundle } from '#runtime/update/install.ts';
import { UpdateRecords } from '#runtime/update/record.ts';

const [dataDir = '', source = '', places = '{}'] = process.argv.slice(2);
const slots = new RaucSlots(JSON.parse(places) as RaucPlaces);
const report = (percent: number): void => { process.stdout.write(`installing ${percent}\n`); };
await installBundle({ source, isDowngradeAllowed: false, command: 'killed' }, { slots, records: new UpdateRecords(dataDir), clock: systemClock, wasOffline: false, report }, new AbortController().signal);
process.stdout.write('installed\n');
