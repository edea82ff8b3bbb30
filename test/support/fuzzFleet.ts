/** Fuzz targets of the fleet: messages of the twin, queries that an operator writes, and the stored state of twins and roll-outs. */
import { strict as assert } from 'node:assert';
import { checkActs, decodeAct, exportLines, parseExport, signAct } from '#runtime/controller/actsCodec.ts';
import { decodeDeskRecord, encodeDeskRecord, readSaying, type DeskRecord } from '#runtime/controller/deskRecord.ts';
import { decodeGateway, encodeGateway, type RegisteredGateway } from '#runtime/controller/registerCodec.ts';
import { parseQuery } from '#runtime/controller/queryParser.ts';
import { parseRollout } from '#runtime/controller/rolloutPlan.ts';
import { step } from '#runtime/controller/rollout.ts';
import { decodeEvent, decodeRollout, encodeEvent, encodeRollout } from '#runtime/controller/rolloutCodec.ts';
import { beginRollout } from '#runtime/controller/rolloutState.ts';
import { decodeConfirmation, decodeDesired, decodeReported, encodeConfirmation, encodeDesired, encodeReported, type Desired } from '#runtime/core/twin.ts';
import { judgeRevocation, NOTHING_REVOKED, parseRevocation, signRevocation } from '#runtime/crypto/revocation.ts';
import { durableOf, firstState, step as twinStep } from '#runtime/fleet/twin.ts';
import { decodeTwinState, encodeTwinState } from '#runtime/fleet/twinState.ts';
import { ZERO_HASH } from '#runtime/ledger/block.ts';
import { controllerKey } from './fleetRegister.ts';
import type { FuzzTarget } from './fuzzTargets.ts';

const NOW_MICROS = 1_000_000;
const DESIRED: Desired = { version: 3, value: { wifi: { ssid: 'yard' }, interval: 10 }, confirmSeconds: 60, confirmKey: '5'.repeat(64) };
const plan = parseRollout({
  version: 1,
  rollout: { id: 'r1', group: 'all', command: { type: 'restart' }, rollback: { type: 'restart' }, stages: [{ count: 1 }, { percent: 100 }], failures: { percent: 10 }, healthy: "health.status = 'up'" },
});
const rollout = step(beginRollout(plan, ['gw-1', 'gw-2', 'gw-3'], NOW_MICROS), { kind: 'started' }, NOW_MICROS).state;
const DESK_RECORD: DeskRecord = { gateway: 'gw-1', type: 'restart', id: 'r-1', kid: 'k', endsMicros: 9, submittedMicros: 1, changedMicros: 2, state: 'failed', reason: 'no' };
const GATEWAY: RegisteredGateway = { name: 'gw-1', claimId: 'ab', identityKey: 'cd', spki: 'ef', tpm: { ak: '1', ek: '2' }, ownerKeys: ['k'], state: 'claimed', sinceMicros: 1, why: '', frozen: { sinceMicros: 2, why: 'twice' }, chains: ['a', 'b'] };
const REVOCATION = signRevocation(controllerKey, { version: 1, issued: 1, authority: '0'.repeat(64), keys: [{ kid: 'k'.repeat(43), why: 'lost' }], authorities: [], receiptKeys: [{ key: '1'.repeat(64), next: '2'.repeat(64), why: '' }] });
const act = (): Buffer => signAct(controllerKey, { index: 0, micros: 1, who: 'k', what: 'gateway.claimed', about: 'gw-1', detail: '', previous: ZERO_HASH });
const trial = durableOf(twinStep(firstState({ a: 1 }), { kind: 'desired', desired: DESIRED }).state);
const target = (samples: readonly Buffer[], run: FuzzTarget['run']): FuzzTarget => ({ samples, run });

/** What decodes must be a state that the machine can go on from, and has one spelling. */
function judgeRollout(bytes: Buffer): void {
  const state = decodeRollout(bytes);
  step(state, { kind: 'started' }, NOW_MICROS);
  assert.deepEqual(decodeRollout(encodeRollout(state)), state);
}

function judgeTwin(bytes: Buffer): void {
  const state = decodeTwinState(bytes);
  twinStep(state, { kind: 'started', nowMicros: 0 });
  assert.deepEqual(decodeTwinState(encodeTwinState(state)), state);
}

export const FLEET_TARGETS: readonly (readonly [string, () => FuzzTarget])[] = [
  ['twin.desired', () => target([encodeDesired(DESIRED, 'a.b.c')], (bytes) => { decodeDesired(bytes); })],
  ['fleet.revocation', () => target([REVOCATION], (bytes) => { judgeRevocation(parseRevocation(bytes), { owners: [controllerKey.publicKey], authority: '0'.repeat(64), before: NOTHING_REVOKED }); })],
  ['twin.reported', () => target([encodeReported({ revision: 9, version: 3, state: 'reverted', value: { interval: 5 }, reason: 'time is up' })], (bytes) => { decodeReported(bytes); })],
  ['twin.confirm', () => target([encodeConfirmation({ version: 3, revision: 9 }, Buffer.from('key'), 'a.b.c')], (bytes) => { decodeConfirmation(bytes); })],
  ['twin.state', () => target([encodeTwinState(trial), encodeTwinState(durableOf(firstState(null)))], judgeTwin)],
  ['fleet.query', () => target([Buffer.from("not (twin.site.region in ['a', 'b']) and twin.v >= '1.4.0-rc.1' or health.t < -2.5"), Buffer.from("id ^= 'gw-' and exists twin.a")], (bytes) => { parseQuery(bytes.toString('utf8')); })],
  ['rollout.state', () => target([encodeRollout(rollout)], judgeRollout)],
  ['desk.saying', () => target([Buffer.from('{"status":"failed","reason":"command.config: no","issued":1,"parameters":{"a":[1]},"more":true}')], (bytes) => { readSaying(bytes, { issued: 1, parameters: { a: [1] } }); })],
  ['desk.record', () => target([encodeDeskRecord(DESK_RECORD)], (bytes) => { assert.deepEqual(decodeDeskRecord(encodeDeskRecord(decodeDeskRecord(bytes))), decodeDeskRecord(bytes)); })],
  ['register.gateway', () => target([encodeGateway(GATEWAY)], (bytes) => { assert.deepEqual(decodeGateway(encodeGateway(decodeGateway(bytes))), decodeGateway(bytes)); })],
  ['acts.act', () => target([act()], (bytes) => { decodeAct(bytes); })],
  ['acts.export', () => target([Buffer.from(`${exportLines([act()], controllerKey.publicKey).toArray().join('\n')}\n`)], (bytes) => { const { acts, publicKey } = parseExport(bytes.toString('latin1')); checkActs(acts, publicKey); })],
  ['rollout.event', () => target([encodeEvent({ event: { kind: 'result', gateway: 'gw-1', commandId: 'r-x', isSuccess: false, reason: 'disk full' }, nowMicros: 7 }), encodeEvent({ event: { kind: 'tick' }, nowMicros: 7 })], (bytes) => { decodeEvent(bytes); })],
];
