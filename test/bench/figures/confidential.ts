/** What sealing costs: the writer thread's work on one message (decode, encode, hash), confidential beside plain. */
import type { Decoder } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { exchangeKeyOfSeed, newExchangeSeed } from '#runtime/crypto/xwing.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { openTagKeys } from '#runtime/ingest/tagKeys.ts';
import { encodeEntry } from '#runtime/ledger/entry.ts';
import { tempDir } from '#test/support/temp.ts';
import { alone, median, paired, ratePerSecond, type Bench, type Figure } from '../figure.ts';

const TOPIC = 'te/device/bench///m/environment';
/** 200 bytes, as in the traffic figures. */
const PAYLOAD = Buffer.from(JSON.stringify({ temperature: 21.5, humidity: 44.25 }).padEnd(200));
const STEP_MESSAGES = 1_000;

async function microsPerMessage(decoder: Decoder, packetId: number, minMs: number): Promise<number> {
  let monoMicros = 0;
  const perSecond = await ratePerSecond(minMs, () => {
    for (let i = 0; i < STEP_MESSAGES; i++) {
      monoMicros++;
      const outcome = decoder.decode({ clientId: 'bench', topic: TOPIC, payload: PAYLOAD, qos: packetId === 0 ? 0 : 1, retain: false, duplicate: false, packetId, wallMicros: monoMicros, monoMicros });
      if (outcome.kind !== 'record') throw new Error(`not recorded: ${outcome.kind}`);
      sha256(encodeEntry({ kind: outcome.entryKind, source: outcome.source, wallMicros: monoMicros, monoMicros, bootEpoch: 1, body: outcome.body }));
    }
    return STEP_MESSAGES;
  });
  return 1e6 / perSecond;
}

function epochMillis(recipients: Parameters<typeof createDecoder>[1]): number {
  const from = performance.now();
  createDecoder({ registration: 'auto', mappings: [], record: [{ topic: '#', mode: 'every', deadband: 0, windowMs: 0, confidential: true }] }, recipients)
    .decode({ clientId: 'bench', topic: TOPIC, payload: PAYLOAD, qos: 0, retain: false, duplicate: false, packetId: 0, wallMicros: 1, monoMicros: 1 });
  return performance.now() - from;
}

export const confidential: Bench = {
  name: 'confidential',
  async run({ isQuick, say }): Promise<Figure[]> {
    say('confidential and plain messages in turn');
    using dir = tempDir('confidential');
    const settings = { registration: 'auto', mappings: [], record: [] } as const;
    const recipients = [{ name: 'owner', publicKey: exchangeKeyOfSeed(newExchangeSeed()).publicKey }];
    const sealing = { recipients, tagKeys: openTagKeys(dir.path) };
    const sealed = createDecoder({ ...settings, record: [{ topic: '#', mode: 'every', deadband: 0, windowMs: 0, confidential: true }] }, sealing);
    const plain = createDecoder(settings);
    const minMs = isQuick ? 200 : 1_000;
    const rounds = isQuick ? 3 : 7;
    const figures: Figure[] = [];
    for (const [name, packetId, note] of [['confidential_qos0_us', 0, 'one AES-256-GCM more'], ['confidential_qos1_us', 7, 'one AES-256-GCM and one HMAC more: the tag by which a redelivery is known after a restart']] as const) {
      const [ours, theirs]: [number[], number[]] = [[], []];
      for (const decoder of [sealed, plain]) await microsPerMessage(decoder, packetId, minMs / 4);
      for (let round = 0; round < rounds; round++) {
        ours.push(await microsPerMessage(sealed, packetId, minMs));
        theirs.push(await microsPerMessage(plain, packetId, minMs));
      }
      figures.push(paired(name, 'µs/message', ours, 'in clear', theirs, `decode, encode, hash of a 200-byte reading; ${note}`));
    }
    const epochs = Array.from({ length: isQuick ? 5 : 25 }, () => epochMillis(sealing));
    return [...figures, alone('confidential_key_epoch_ms', 'ms', median(epochs), 'a new content key for one recipient: key encapsulation, and the tag key flushed to disk; once per start, day or million entries')];
  },
};
