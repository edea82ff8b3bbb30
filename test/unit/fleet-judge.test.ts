import assert from 'node:assert/strict';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { judge, type Accepted, type Place } from '#runtime/fleet/judge.ts';
import type { CommandMessage } from '#runtime/fleet/message.ts';
import { CommandWorld, GATEWAY, SECOND, newParty } from '#test/support/commandHarness.ts';

const world = new CommandWorld();
const guest = newParty('guest', ['attest']);
const now = world.clock.wall;
const PLACE: Place = { target: MAIN_ENTITY, type: 'diagnostics', id: '1' };

interface Given { readonly place?: Place; readonly nowMicros?: number; readonly horizon?: number; readonly nobody?: boolean }

const judged = (payload: Uint8Array, { place = PLACE, nowMicros = now, horizon = -1, nobody = false }: Given = {}): Accepted =>
  judge(payload, place, { gateway: GATEWAY, operators: nobody ? [] : [world.owner.operator, guest.operator], nowMicros, passedMicros: 0, horizonOf: () => horizon });

const bytes = (message: CommandMessage): Buffer => Buffer.from(JSON.stringify(message));
const good = world.sign();
const unsigned = (({ signature: _signature, ...members }: CommandMessage): CommandMessage => members)(good);
const signature = good['signature'] as string;
const flipped = signature.replace(/.(?=.{9}$)/, (letter) => (letter === 'A' ? 'B' : 'A'));

const REFUSED: readonly (readonly [what: string, code: string, payload: Uint8Array, given?: Given])[] = [
  ['nobody to obey', 'command.no_operators', bytes(good), { nobody: true }],
  ['no signature', 'command.unsigned', bytes(unsigned)],
  ['an empty signature', 'command.unsigned', bytes({ ...good, signature: '' })],
  ['a truncated message', 'command.malformed', bytes(good).subarray(0, 200)],
  ['a truncated signature', 'jws.malformed', bytes({ ...good, signature: signature.slice(0, -4) })],
  ['an altered signature', 'command.signature', bytes({ ...good, signature: flipped })],
  ['altered parameters', 'command.signature', bytes({ ...good, parameters: { a: 1 } })],
  ['a longer validity', 'command.signature', bytes({ ...good, ttl_s: 3_600 })],
  ['a member that nobody signed', 'command.signature', bytes({ ...good, dry_run: true })],
  ['an unknown member that nobody signed', 'command.signature', bytes({ ...good, extra: 1 })],
  ['a key that nobody knows', 'command.operator', bytes(world.sign({}, newParty('stranger')))],
  ['an operator who may not', 'command.forbidden', bytes(world.sign({}, guest))],
  ['a type that has to be named', 'command.forbidden', bytes(world.sign({ type: 'shell' })), { place: { ...PLACE, type: 'shell' } }],
  ['another gateway', 'command.target', bytes(world.sign({ gateway: 'gw2' }))],
  ['another target', 'command.target', bytes(world.sign({ target: 'device/child//' }))],
  ['another type', 'command.target', bytes(world.sign({ type: 'attest' }))],
  ['another id', 'command.target', bytes(world.sign({ id: '2' }))],
  ['a validity that is over', 'command.expired', bytes(good), { nowMicros: now + 60 * SECOND }],
  ['an old one where newer ones were forgotten', 'command.stale', bytes(good), { horizon: now / SECOND }],
  ['a version to come', 'command.version', bytes({ ...good, version: 2 })],
  ['no version', 'command.malformed', bytes({ ...good, version: '1' })],
  ['too much', 'command.malformed', Buffer.alloc(LIMITS.commandBytesMax + 1, 0x20)],
  ['not UTF-8', 'command.malformed', Buffer.from([0x22, 0xff, 0x22])],
  ['no object', 'command.malformed', Buffer.from('[1]')],
  ['nesting without end', 'jws.malformed', bytes({ ...good, parameters: JSON.parse(`${'{"a":'.repeat(500)}1${'}'.repeat(500)}`) as CommandMessage })],
  ['no validity', 'command.malformed', bytes({ ...good, ttl_s: 0 })],
  ['a validity beyond all bounds', 'command.malformed', bytes({ ...good, ttl_s: LIMITS.commandSecondsMax + 1 })],
  ['an id that is a path', 'command.malformed', bytes({ ...good, id: '../1' })],
];

describe('fleet: which messages are commands', () => {
  it('takes what an operator signed, however its members stand and are spaced', () => {
    const reordered = Object.fromEntries(Object.entries(good).toReversed());
    for (const payload of [bytes(good), bytes(reordered), Buffer.from(JSON.stringify(good, undefined, 2))]) {
      const { operator, claims, expiresMicros } = judged(payload);
      assert.deepEqual([operator.name, claims.type, claims.id, expiresMicros], ['owner', 'diagnostics', '1', now + 60 * SECOND]);
    }
  });

  for (const [what, code, payload, given] of REFUSED) {
    it(`refuses ${what}: ${code}`, () => {
      assert.throws(() => judged(payload, given), (error) => error instanceof TenzroError && error.code === code);
    });
  }

  it('counts validity from now on where the clock is behind the signature', () => {
    const nowMicros = 10 * SECOND;
    assert.equal(judged(bytes(good), { nowMicros }).expiresMicros, nowMicros + 60 * SECOND);
  });
});
