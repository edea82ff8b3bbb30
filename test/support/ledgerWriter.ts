/** A writer thread with the simplest decoder: the payload is the body, the topic the source; `reject/…` and `skip/…` topics are what they say. */
import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '#runtime/core/errors.ts';
import type { DecodeOutcome, Decoder, InboundRecord } from '#runtime/core/ports.ts';
import { KIND } from '#runtime/core/types.ts';
import { runWriter, type WriterOptions } from '#runtime/ledger/writerLoop.ts';

const decoder: Decoder = {
  decode: ({ topic, payload }: InboundRecord): DecodeOutcome => {
    if (topic.startsWith('reject/')) return { kind: 'reject', code: 'topic.invalid', detail: 'asked for' };
    if (topic.startsWith('skip/')) return { kind: 'skip', reason: 'unrecorded' };
    return { kind: 'record', entryKind: KIND.event, source: topic, body: payload };
  },
  due: () => [],
  drain: () => [],
  remember: () => undefined,
  learn: () => undefined,
};

invariant(parentPort, 'runs as a worker thread');
await runWriter(parentPort, workerData as WriterOptions, () => decoder);
