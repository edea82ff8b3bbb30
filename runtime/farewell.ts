/**
 * The composition root of a chain's last words to the fleets that this gateway reports to. They are said with the keys that end: a fleet's broker knows those
 * that follow only from them, and who comes with others is a stranger there.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeviceStore } from '#provisioning/claim/deviceStore.ts';
import { openHandOver } from '#provisioning/claim/handOver.ts';
import { ownerOf } from '#provisioning/claim/joining.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { Counters, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import type { UpstreamStatus } from '#runtime/core/types.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import { CertificateKeeper } from '#runtime/fleet/certificateKeeper.ts';
import { keptTime, passedBeyondDoubt } from '#runtime/fleet/provableTime.ts';
import { Revocations } from '#runtime/fleet/revocations.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import { identitySpki } from './identity.ts';
import { Upstreams } from './upstreams.ts';

export interface FarewellOptions {
  readonly settings: Settings;
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  /** The keys that end. */
  readonly signer: () => Promise<Signer>;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

export interface Farewell extends AsyncDisposable {
  /** Resolves when each fleet has receipted all blocks. Rejects with `identity.unheard` where one takes nothing for a while, or `signal` aborts. */
  heard(signal: AbortSignal): Promise<void>;
}

const SILENCE_MS = 30_000;
const POLL_MS = 100;

/** For a stopped gateway. Throws `claim.state` where nobody can tell who owns it. */
export async function openFarewell({ settings, ...options }: FarewellOptions): Promise<Farewell> {
  const { dataDir } = settings;
  await using opening = new AsyncDisposableStack();
  const store = opening.use(await openKeyValueStore(join(dataDir, 'broker')));
  const revocations = new Revocations({ store, onTaken: () => undefined });
  const passedMicros = (receiptMicros: number): number => {
    const { signedMicros, aheadMicros } = keptTime(store);
    return passedBeyondDoubt({ now: Math.max(options.clock.wallMicros() - aheadMicros, signedMicros), signed: signedMicros }, receiptMicros);
  };
  const isAuthorityRevoked = (digest: Uint8Array): boolean => revocations.isAuthorityRevoked(digest);
  const upstreams = new Upstreams(settings.uplinks, { ...options, store, gateway: settings.node.name, forward: settings.forward, statement: () => ({}), isComplete: () => true, passedMicros, isAuthorityRevoked, usersOf: () => [] });
  const certificates = new CertificateKeeper({ store, identity: () => identitySpki(options.reader), provenMicros: () => passedMicros(upstreams.receiptMicros), isRevoked: isAuthorityRevoked, onTaken: () => undefined });
  const { owner: ownership } = (await new DeviceStore(dataDir).read()) ?? {};
  if (ownership) {
    const owner = ownerOf(openHandOver(ownership.handOver), ownership.ownerKeys, ownership.words);
    revocations.own(owner);
    upstreams.add(certificates.renewed({ ...owner.upstream, receiptKey: revocations.receiptKey(owner.upstream.receiptKey) }));
  }
  const stop = new AbortController();
  const following = upstreams.follow(stop.signal);
  following.catch(() => undefined); // `heard` and the end have it
  const opened = opening.move();
  return {
    heard: (signal) => Promise.race([heardBy(upstreams, signal), following]),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await using _ = opened;
      await following;
    },
  };
}

async function heardBy(upstreams: Upstreams, signal: AbortSignal): Promise<void> {
  let [waiting, sinceMs] = [Number.POSITIVE_INFINITY, performance.now()];
  for (;;) {
    const deaf = upstreams.status().filter(({ connected, lag }) => !connected || lag > 0);
    const [first] = deaf;
    if (!first) return;
    const left = deaf.reduce((sum, { lag }) => sum + lag, 0);
    if (left < waiting) [waiting, sinceMs] = [left, performance.now()];
    if (signal.aborted || performance.now() - sinceMs > SILENCE_MS) throw unheard(first);
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined); // aborted: the next look says so
  }
}

const unheard = ({ name, broker, fault, lag }: UpstreamStatus): TenzroError =>
  new TenzroError('identity.unheard', `the fleet ${name} at ${broker} has not receipted the end of the chain (${lag} entries to go): ${fault ?? 'no receipt yet'}`);
