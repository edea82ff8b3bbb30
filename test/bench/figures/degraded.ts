/** The same load on a gateway in comfort and on one with a stalled subscriber, a slow disk and a slow TPM, in turn. */
import { runLoad } from '#test/support/load.ts';
import { hardship } from '#test/support/hardship.ts';
import { findPeer } from '#test/support/peers.ts';
import { startGateway } from '../contenders.ts';
import { paired, type Bench, type Figure } from '../figure.ts';

const FLUSH_MS = 20;
const SIGN_MS = 70;
const LOAD = { publishers: 50, bytes: 200 } as const;
/** What a busy workshop sends: far above it the slow disk's own limit is measured. */
const OFFERED_PER_S = 5_000;

export const degraded: Bench = {
  name: 'degraded',
  async run({ isQuick, say }): Promise<Figure[]> {
    const swtpm = findPeer('swtpm');
    if (swtpm === undefined) {
      say('degraded left out: swtpm is missing (apt-get install swtpm)');
      return [];
    }
    say('a gateway in comfort and one in hardship in turn');
    await using comfort = await startGateway();
    await using trouble = await hardship({ swtpm, flushMs: FLUSH_MS, signMs: SIGN_MS });
    await using suffering = await startGateway(trouble.options);
    const [warm, seconds] = isQuick ? [0.3, 1.2] : [1, 5];
    const rate = async (port: number, stalled: number, how: { readonly rate: number } | { readonly window: number }): Promise<number> =>
      (await runLoad({ port, ...LOAD, warm, seconds, stalled, ...how })).ackedPerSecond;
    const [offered, saturated] = [{ ours: [] as number[], theirs: [] as number[] }, { ours: [] as number[], theirs: [] as number[] }];
    for (let round = 0; round < (isQuick ? 2 : 5); round++) {
      for (const [taken, how] of [[offered, { rate: OFFERED_PER_S }], [saturated, { window: 20 }]] as const) {
        taken.theirs.push(await rate(comfort.port, 0, how));
        taken.ours.push(await rate(suffering.port, 1, how));
      }
    }
    const what = `stalled subscriber, every flush ${FLUSH_MS} ms slower, TPM ${SIGN_MS} ms a signature`;
    return [
      paired('degraded_messages_per_s', 'messages/s', offered.ours, 'the same gateway in comfort', offered.theirs, `${what}; offered ${OFFERED_PER_S.toLocaleString('en')} messages/s`),
      paired('degraded_messages_per_s_saturated', 'messages/s', saturated.ours, 'the same gateway in comfort', saturated.theirs, `${what}; 50 × 20 in flight, so that a flush carries at most 1,000 messages`),
    ];
  },
};
