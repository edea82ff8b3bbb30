/**
 * `tenzro identity rotate` and `recover --new-chain`, on a stopped gateway. Order of a rotation: the successors are sealed beside the old keys; the old
 * chain's last entry names them and its last block is sealed; the chain is marked to be set aside at the next start; the revocation counter makes the
 * old keys worthless; the successors take their place. Cut off before the counter: the old keys go on, in a chain that says why it began anew. The fleets
 * hear the last entry before the mark: with the keys that follow nobody could tell them.
 */
import { existsSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import manifest from '../../package.json' with { type: 'json' };
import { openAttestation } from '#runtime/attestation.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { Settings } from '#runtime/core/settings.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { EPOCH_BODY, KIND, type Cbor } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { spkiOfMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { openFarewell } from '#runtime/farewell.ts';
import { acquireLock } from '#runtime/ledger/lock.ts';
import { ledgerPaths } from '#runtime/ledger/layout.ts';
import { markSuspect } from '#runtime/ledger/openChain.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { WriterClient } from '#runtime/ledger/writerClient.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';
import type { WriterData } from '#runtime/writer.ts';
import { done, expectOpenable, identityAdopt, useIdentity } from './identity.ts';
import { APP_ROOT, configOf, type CommonFlags, type Io } from './io.ts';

export interface RotateFlags extends CommonFlags {
  /** Though fleets do not hear of it. */
  readonly alone?: boolean;
}

/** New keys, and a new chain that follows the old one. Throws `identity.unheard`, with the old keys in force, where a fleet does not take the old chain's last word. */
export async function identityRotate(io: Io, flags: RotateFlags): Promise<void> {
  const { settings } = configOf(flags);
  await using stack = new AsyncDisposableStack();
  const writer = stack.use(await startWriter(settings));
  const reader = stack.use(await openReader(settings.dataDir));
  const ports = { settings, writer, reader, clock, counters: new CounterTable(), log: createLog({ level: 'warn', form: 'people', color: io.color }) };
  const { attester, identity } = stack.use(openAttestation({
    ...ports, appRoot: APP_ROOT, modelDigests: () => [], onBlock: () => undefined, onIdentity: () => undefined,
  }));
  await expectOpenable(identity, io.signal);
  const farewell = flags.alone === true ? undefined : stack.use(await openFarewell({ ...ports, signer: async () => (await identity.keys()).signer }));
  await attester.sealNow('request');
  await farewell?.heard(io.signal); // before anything changes
  const { signer, exchange } = await identity.keeper.prepareNext({ keep: false }, io.signal);
  const successor = sha256(signer.publicKey, exchange.publicKey);
  const detail = `the keys were changed; signing key ‖ exchange key of the successor have SHA-256 ${toHex(successor)}`;
  const body = new Map<number, Cbor>([[EPOCH_BODY.code, 'identity.rotated'], [EPOCH_BODY.detail, detail], [EPOCH_BODY.successor, successor], [EPOCH_BODY.successorTls, sha256(spkiOfMlDsa65(signer.publicKey))]]);
  await writer.append({ kind: KIND.epoch, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body });
  await attester.sealNow('shutdown');
  await farewell?.heard(io.signal); // they let the next keys in from here on
  markSuspect(settings.dataDir, new TenzroError('identity.rotated', detail));
  await identity.keeper.commitNext(io.signal);
  done(io, flags, 'rotated', `rotated: the last entry of the old chain names its successor, ${toHex(successor)}; at its next start the gateway sets that chain aside and begins a new one`);
}

export interface RecoverFlags extends CommonFlags {
  readonly approval?: string;
  readonly newChain?: boolean;
}

export async function identityRecover(io: Io, flags: RecoverFlags): Promise<void> {
  if ((flags.approval === undefined) === (flags.newChain === undefined)) throw new TenzroError('cli.usage', 'say either --approval FILE or --new-chain');
  if (flags.approval === undefined) await newChain(io, flags);
  else await identityAdopt(io, flags.approval, flags);
}

/** Gives locked keys up. */
async function newChain(io: Io, flags: CommonFlags): Promise<void> {
  const { settings } = configOf(flags);
  refuseRunning(settings);
  await useIdentity(settings, async ({ keeper, files }) => {
    const state = await keeper.inspect(io.signal);
    if (state.at !== 'locked') throw new TenzroError('cli.usage', 'the keys are not locked: tenzro identity rotate changes them');
    if (existsSync(ledgerPaths(settings.dataDir).chain)) markSuspect(settings.dataDir, new TenzroError('identity.recovered', `the keys were given up: ${state.code}: ${state.detail}`));
    const kept = await files.setAside();
    done(io, flags, 'recovered', `at its next start the gateway sets the old chain aside and begins a new one with new keys${kept.length === 0 ? '' : `; the old ones stay as identity/${kept.join(', identity/')}`}`);
  });
}

const startWriter = (settings: Settings): Promise<WriterClient> => WriterClient.start({
  clock, batchDelayMs: settings.ledger.batchDelayMs,
  events: { onCommitted: () => undefined, onReject: () => undefined, onDrop: () => undefined, onState: () => undefined, onFatal: () => undefined },
  spawn: (started) => {
    const workerData: WriterData = { dataDir: settings.dataDir, version: manifest.version, started, retention: settings.ledger.retention, ingest: settings.ingest, confidential: settings.confidential };
    return new Worker(new URL('../writer.ts', import.meta.url), { name: 'tenzro-writer', workerData });
  },
});

/** Throws `ledger.locked`. */
function refuseRunning({ dataDir }: Settings): void {
  const { root, lock } = ledgerPaths(dataDir);
  if (existsSync(root)) acquireLock(lock)[Symbol.dispose]();
}
