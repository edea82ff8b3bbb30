/** Composition root of the writer thread: the decoder of ingest in front of the ledger's writer. */
import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '#runtime/core/errors.ts';
import { settleWhenIdle } from '#runtime/core/footprint.ts';
import type { ConfidentialSettings, IngestSettings } from '#runtime/core/settings.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { readRecipients } from '#runtime/ingest/recipients.ts';
import { openTagKeys } from '#runtime/ingest/tagKeys.ts';
import { runWriter, type WriterOptions } from '#runtime/ledger/writerLoop.ts';

/** What the main thread hands over as `workerData`. */
export interface WriterData extends WriterOptions {
  readonly ingest: IngestSettings;
  readonly confidential: ConfidentialSettings;
}

invariant(parentPort, 'the writer runs as a worker thread');
const data = workerData as WriterData;
settleWhenIdle();
await runWriter(parentPort, data, () => createDecoder(data.ingest, { recipients: readRecipients(data.confidential), tagKeys: openTagKeys(data.dataDir) }));
