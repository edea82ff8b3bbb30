/** The composition root of measurements: joins the kernel's logs, the TPM's PCRs and the ledger, and has them recorded before a block is sealed. */
import { readBootLog, readImaLog } from '#drivers/system/bootLogs.ts';
import type { Tpm } from '#drivers/tpm2/tpm.ts';
import { Measurements } from '#runtime/attest/measurements.ts';
import type { Sealer } from '#runtime/attest/sealer.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { KIND } from '#runtime/core/types.ts';
import { BOOT_PCRS } from '#runtime/crypto/eventLog.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';

export interface MeasuringOptions {
  readonly settings: Settings;
  /** As blocks name it. */
  readonly softwareDigest: Uint8Array;
  /** SHA-256 of the model files in use. */
  readonly modelDigests: () => readonly Uint8Array[];
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  /** Undefined without one. */
  readonly tpm: Tpm | undefined;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export function openMeasurements({ settings, softwareDigest, modelDigests, writer, reader, tpm, ...ports }: MeasuringOptions): Measurements {
  const last = reader.lastBlock();
  const configuration = sha256(Buffer.from(JSON.stringify(settings)));
  return new Measurements({
    ...ports,
    readBootLog: () => readBootLog({ maxBytes: LIMITS.bootLogBytesMax }),
    readBootPcrs: async () => (tpm ? { kind: 'value', value: new Map(await tpm.pcr.read(BOOT_PCRS, AbortSignal.timeout(LIMITS.tpmTimeoutMs))) } : { kind: 'none', reason: 'no TPM' }),
    readImaLog: (from) => readImaLog({ maxBytes: LIMITS.imaLogBytesMax - from }, from),
    software: () => ({ digest: softwareDigest, components: [['configuration', configuration], ...modelDigests().map((digest) => ['model', digest] as const)] }),
    append: (body) => writer.append({ kind: KIND.measurement, source: MAIN_ENTITY, wallMicros: ports.clock.wallMicros(), monoMicros: ports.clock.monoMicros(), body }),
    entry: (index) => reader.entry(index),
    oldest: () => reader.oldest(),
    previous: last && decodeBlock(last.payload).support,
  });
}

/** Measures before every block but the last of a run: the shutdown entry stays the last one. */
export function measuredSealer(sealer: Pick<Sealer, 'seal'>, measurements: Measurements): Pick<Sealer, 'seal'> {
  return {
    async seal(request, signal) {
      if (!request.counter) await measurements.refresh();
      return sealer.seal(request, signal);
    },
  };
}
