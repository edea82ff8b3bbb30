/** Writes an image and kills itself, as a power cut would: node flashVictim.ts IMAGE TARGET PHASE BYTES. */
import { openImage } from '#provisioning/flash/image.ts';
import { Target } from '#provisioning/flash/target.ts';
import { writeImage } from '#provisioning/flash/write.ts';

const [imagePath = '', targetPath = '', dieIn = '', dieAt = ''] = process.argv.slice(2);
const { signal } = new AbortController();
const image = await openImage(imagePath, signal);
await using target = await Target.open(targetPath, undefined);
await writeImage({
  image, bmap: undefined, target, isFile: true, signal,
  seen: (phase, bytes) => { if (phase === dieIn && bytes >= Number(dieAt)) process.kill(process.pid, 'SIGKILL'); },
});
