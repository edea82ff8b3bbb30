/** `npm run build:base [-- --update-lock | --again | --emulated-tpm]`: tools chroot and the card's Debian; `--again` builds once more and compares. */
import { stat } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { messageOf } from '#runtime/core/errors.ts';
import { emulatedTpmModule } from './emulatedTpm.ts';
import { updateLocks } from './lock.ts';
import { baseTree } from './tree.ts';

const { values } = parseArgs({ options: { 'update-lock': { type: 'boolean', default: false }, again: { type: 'boolean', default: false }, 'emulated-tpm': { type: 'boolean', default: false } } });
const progress = (line: string): void => { process.stderr.write(`${line}\n`); };
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => { stop.abort(); });

try {
  if (values['update-lock']) {
    await updateLocks(new Date(), progress);
  } else if (values['emulated-tpm']) {
    process.stdout.write(`${await emulatedTpmModule({ progress, signal: stop.signal })}\n`);
  } else {
    const { tar, digest, packages, kernelVersion } = await baseTree({ progress, signal: stop.signal, again: values.again });
    process.stdout.write(`${tar}\nsha256 ${digest}, ${((await stat(tar)).size / 2 ** 20).toFixed(0)} MiB, ${packages.length} packages, Linux ${kernelVersion}\n`);
  }
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
}
