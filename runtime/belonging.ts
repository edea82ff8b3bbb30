/** The composition root of what ties a gateway to its fleets: its owner, the upstreams, and the commands that come over them and over its own broker. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isoOfMicros, type Clock } from '#runtime/core/clock.ts';
import { messageOf } from '#runtime/core/errors.ts';
import type { Owner } from '#runtime/core/fleet.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { FleetStatus } from '#runtime/observe/status.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { CLAIM_BODY, KIND, type Cbor, type ClaimEntryState } from '#runtime/core/types.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import type { Signer } from '#runtime/crypto/mldsa.ts';
import type { RevocationList } from '#runtime/crypto/revocation.ts';
import { CertificateKeeper, type Taken } from '#runtime/fleet/certificateKeeper.ts';
import type { Commander } from '#runtime/fleet/commander.ts';
import { OwnerWord } from '#runtime/fleet/ownerWord.ts';
import { passedBeyondDoubt } from '#runtime/fleet/provableTime.ts';
import { Revocations } from '#runtime/fleet/revocations.ts';
import { OWNER_UPSTREAM } from '#runtime/core/fleet.ts';
import { identitySpki } from './identity.ts';
import { openCommanding, type CommandingOptions } from './commanding.ts';
import { openTwinning, type Twinning } from './twinning.ts';
import { NO_SLOTS, Updating, type SlotsHere } from './updating.ts';
import { Upstreams } from './upstreams.ts';

export interface BelongingOptions extends Omit<CommandingOptions, 'trials' | 'receiptMicros' | 'isKeyRevoked' | 'updater'> {
  /** Absent: nothing of this gateway can be replaced from afar. */
  readonly slots?: SlotsHere;
  /** The identity's. Rejects with `identity.*` while the keys are locked. */
  readonly signer: () => Promise<Signer>;
  /** What the gateway says of itself to its fleets, beside `status`; nothing that changes all the time. */
  readonly statement: () => JsonObject;
}

export interface Belonging {
  readonly upstreams: Upstreams;
  readonly updating: Updating;
  /** What people at the fleet ask for, until `signal` aborts: it ends before the broker does. */
  follow(signal: AbortSignal): Promise<void>;
  status(): FleetStatus;
  /** At every start while it is owned, and at the claim. */
  onOwned(owner: Owner): void;
  /** Its keys count no more at once; resolves when the connection to its broker is closed. */
  onDisowned(): Promise<void>;
  /** Resolves when the owner's fleet has receipted that many entries; at the latest after a time that is enough for a fleet that is there. */
  delivered(entries: number): Promise<void>;
  /** Of an owner: the provable time is not before it, µs since 1970; `isNow`: it was said just now. */
  raiseTime(micros: number, isNow: boolean): void;
  /** Whether the owner took back one of its own keys: it orders nothing any more. */
  isOwnerKeyRevoked(publicKey: Uint8Array): boolean;
}

/** A fleet that is away learns of a release from its claim's end. */
const DELIVERY_MS = 30_000;
const DELIVERY_POLL_MS = 250;

export function openBelonging({ signer, statement, ...options }: BelongingOptions): Belonging {
  const { settings } = options;
  const revocations = new Revocations({ store: options.store, onTaken: (list, { message, kid }) => { onRevoked(list, message, kid); } });
  const passedMicros = (receiptMicros: number): number => passedBeyondDoubt(commanding.commander.time, receiptMicros);
  const certificates = new CertificateKeeper({ store: options.store, identity: () => identitySpki(options.reader), provenMicros: () => passedMicros(upstreams.receiptMicros), isRevoked: (digest) => revocations.isAuthorityRevoked(digest), onTaken: (taken) => { onCertified(taken); } });
  const word = new OwnerWord({ ...options, gateway: settings.node.name, ledger: options.writer, certificate: (pem) => { certificates.take(pem); }, revoked: (message) => { revocations.take(message); } });
  const twinning: Twinning = openTwinning({ ...options, gateway: settings.node.name, ledger: options.writer, operators: () => commanding.operators() });
  const updating = new Updating({ ...options, slots: options.slots ?? NO_SLOTS, ledger: options.writer, isOffline: () => { const links = upstreams.status(); return links.length > 0 && links.every(({ connected }) => !connected); } });
  const commanding = openCommanding({ ...options, updater: updating, trials: twinning, receiptMicros: () => upstreams.receiptMicros, isKeyRevoked: (kid) => revocations.isKeyRevoked(kid) });
  const upstreams: Upstreams = new Upstreams(settings.uplinks, {
    ...options, gateway: settings.node.name, forward: settings.forward, signer, statement, isComplete: options.isOwnerKnown, passedMicros, isAuthorityRevoked: (digest) => revocations.isAuthorityRevoked(digest),
    usersOf: (name) => [commanding.overFleet(), twinning.user(), ...(name === OWNER_UPSTREAM ? [word.user()] : [])],
  });
  let owner: Owner | undefined;
  const join = ({ upstream }: Owner, anew = false): void => { upstreams.add(certificates.renewed({ ...upstream, receiptKey: revocations.receiptKey(upstream.receiptKey) }), anew); };
  const record = (body: ReadonlyMap<number, Cbor>): void => {
    const { writer, clock, log } = options;
    writer.append({ kind: KIND.claim, source: MAIN_ENTITY, wallMicros: clock.wallMicros(), monoMicros: clock.monoMicros(), body }).catch((error: unknown) => { log.warn({ error: messageOf(error) }, 'not recorded'); });
  };
  const onRevoked = ({ keys, authorities, receiptKeys, version }: RevocationList, message: Uint8Array, kid: string): void => {
    options.counters.add('fleet.revoked');
    options.log.warn({ by: kid, version, keys: keys.length, authorities: authorities.length, receiptKeys: receiptKeys.length }, 'the owner took keys back');
    record(new Map<number, Cbor>([[CLAIM_BODY.state, 'revoked' satisfies ClaimEntryState], [CLAIM_BODY.message, message]]));
    commanding.operatorsChanged();
    if (owner) join(owner, authorities.length > 0); // the broker that is connected now may be the one
  };
  const onCertified = ({ pem, digest, endsMs }: Taken): void => {
    options.counters.add('fleet.certified');
    options.log.info({ until: isoOfMicros(endsMs * 1_000) }, 'the fleet gave another certificate');
    record(new Map<number, Cbor>([[CLAIM_BODY.state, 'certified' satisfies ClaimEntryState], [CLAIM_BODY.certificates, digest]]));
    upstreams.certify(OWNER_UPSTREAM, pem).catch((error: unknown) => { options.log.warn({ error: messageOf(error) }, 'the next start shows the new certificate'); });
  };
  return {
    upstreams, updating,
    follow: async (signal) => { await Promise.all([commanding.follow(signal), twinning.follow(signal), word.follow(signal), updating.follow(signal)]); },
    async delivered(entries) {
      const isOver = AbortSignal.timeout(DELIVERY_MS);
      const receipted = (): number => upstreams.status().find(({ name }) => name === OWNER_UPSTREAM)?.receipt?.treeSize ?? 0;
      while (receipted() < entries && !isOver.aborted) await sleep(DELIVERY_POLL_MS, undefined, { signal: isOver, ref: false }).catch(() => undefined); // it is over: the loop ends
    },
    raiseTime: (micros, isNow) => { commanding.commander.raiseTime(micros, isNow); },
    isOwnerKeyRevoked: (key) => revocations.isOwnerKeyRevoked(key),
    status: () => ({ upstreams: upstreams.status(), commands: commanding.commander.open(), clock: clockStatus(commanding.commander.time, options.clock), owner: owner ? ownerStatus(owner, revocations.keys, certificates.endsMs) : null }),
    onOwned(next) {
      owner = next;
      revocations.own(next);
      commanding.setOwner(next);
      join(next);
    },
    async onDisowned() {
      owner = undefined;
      revocations.release();
      certificates.release();
      commanding.setOwner(undefined);
      await upstreams.remove(OWNER_UPSTREAM);
    },
  };
}

/** What people call wrong. */
const OFF_MICROS = 300_000_000;

function clockStatus({ now, ahead }: Commander['time'], clock: Clock): FleetStatus['clock'] {
  const wall = clock.wallMicros();
  return { state: ahead > 0 ? 'ahead' : now - wall > OFF_MICROS ? 'behind' : 'unrefuted', wall: isoOfMicros(wall), provable: isoOfMicros(now) };
}

const ownerStatus = ({ words, ownerKeys }: Owner, revoked: readonly string[], endsMs: number | undefined): FleetStatus['owner'] =>
  ({ words, keys: ownerKeys.map((key) => thumbprintOf(key)), revoked, certificateUntil: endsMs === undefined ? null : isoOfMicros(endsMs * 1_000) });
