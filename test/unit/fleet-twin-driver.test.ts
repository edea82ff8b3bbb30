import assert from 'node:assert/strict';
import { toHex } from '#runtime/core/bytes.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import type { Json } from '#runtime/core/json.ts';
import type { FleetLink, LinkUser } from '#runtime/core/ports.ts';
import { decodeReported, encodeConfirmation, encodeDesired, TWIN_TYP, twinSigningInput, twinTopic, type Desired, type Reported } from '#runtime/core/twin.ts';
import { CONFIG_BODY, type Cbor, type Draft } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signDetached } from '#runtime/crypto/jws.ts';
import { TwinDriver } from '#runtime/fleet/twinDriver.ts';
import type { TwinPort } from '#runtime/fleet/twinKeeper.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { GATEWAY, newParty } from '#test/support/commandHarness.ts';
import { MemoryMap, QUIET } from '#test/support/lightGateway.ts';
import { until } from '#test/support/until.ts';


/** A twin that is in force as soon as it is applied. */
class Setting implements TwinPort {
  value: Json = 'first';
  inForce(): Json { return this.value; }
  faultOf(value: Json): string | undefined { return value === 'bad' ? 'fits no schema' : undefined; }
  async apply(value: Json): Promise<'applied'> {
    this.value = value;
    return 'applied';
  }
  withdrawn(): undefined { return undefined; }
  settled(): void { /* it keeps nothing for a way back */ }
}

/** A broker that takes what it is given. */
class Broker {
  readonly said: { readonly topic: string; readonly report: Reported }[] = [];
  readonly link: FleetLink = {
    isReady: true, keyExchange: 'none', fault: '', ready: async () => true,
    publish: async (topic, payload) => { this.said.push({ topic, report: decodeReported(payload) }); }, [Symbol.asyncDispose]: async () => undefined,
  };
  states(name: string): readonly string[] { return this.said.filter(({ topic }) => topic === twinTopic(GATEWAY, name, 'reported')).map(({ report }) => report.state); }
}

interface World {
  readonly twins: Readonly<Record<'network' | 'site', Setting>>;
  readonly brokers: readonly [Broker, Broker];
  readonly users: readonly [LinkUser, LinkUser];
  readonly drafts: readonly Draft[];
  readonly counters: CounterTable;
  readonly desire: (name: string, version: number, value: Json) => void;
  readonly confirm: (name: string, report: Reported) => void;
}

describe('fleet: the driver of twins', () => {
  const [owner, controller] = [newParty('owner'), newParty('controller')];

  const running = async (judge: (world: World) => Promise<void>): Promise<void> => {
    const twins = { network: new Setting(), site: new Setting() };
    const [drafts, counters, stop] = [[] as Draft[], new CounterTable(), new AbortController()];
    const ledger = { append: async (draft: Draft) => drafts.push(draft) };
    const driver = new TwinDriver({ gateway: GATEWAY, twins: new Map(Object.entries(twins)), operators: () => [owner.operator], store: new MemoryMap(), ledger, clock, counters, log: QUIET });
    const [brokers, users] = [[new Broker(), new Broker()] as const, [driver.user(), driver.user()] as const];
    const work = driver.follow(stop.signal);
    const desire = (name: string, version: number, value: Json): void => {
      const desired: Desired = { version, value, confirmSeconds: 60, confirmKey: toHex(sha256(controller.signer.publicKey)) };
      users[0].receive(twinTopic(GATEWAY, name, 'desired'), encodeDesired(desired, signDetached(owner.signer, twinSigningInput(GATEWAY, name, 'desired', desired), TWIN_TYP.desired)));
    };
    const confirm = (name: string, { version, revision }: Reported): void => {
      const signature = signDetached(controller.signer, twinSigningInput(GATEWAY, name, 'confirm', { version, revision }), TWIN_TYP.confirm);
      users[1].receive(twinTopic(GATEWAY, name, 'confirm'), encodeConfirmation({ version, revision }, controller.signer.publicKey, signature));
    };
    try {
      await judge({ twins, brokers, users, drafts, counters, desire, confirm });
    } finally {
      stop.abort();
      await work;
    }
  };

  it('keeps two twins apart, and takes a confirmation from either fleet', () => running(async ({ twins, brokers: [home, other], users, drafts, desire, confirm }) => {
    users[0].connected?.(home.link);
    users[1].connected?.(other.link);
    desire('network', 1, 'yard');
    desire('site', 1, 'bad');
    desire('site', 2, 'hall');
    const trial = await until('the trial', () => home.said.find(({ topic, report }) => topic.includes('network') && report.state === 'probation')?.report);
    await until('the other trial', () => home.states('site').includes('probation'));
    confirm('network', trial);
    await until('the confirmation', () => other.states('network').at(-1) === 'confirmed' && home.states('network').at(-1) === 'confirmed');
    assert.deepEqual([twins.network.value, twins.site.value, home.states('site').at(-1)], ['yard', 'hall', 'probation']);
    const told = (name: string): readonly (Cbor | undefined)[] => drafts.map(({ body }) => body as ReadonlyMap<number, Cbor>).filter((body) => body.get(CONFIG_BODY.twin) === name).map((body) => body.get(CONFIG_BODY.change));
    assert.deepEqual(told('network'), ['desired', 'applying', 'probation', 'confirmed']);
    assert.deepEqual(told('site'), ['desired', 'refused', 'desired', 'applying', 'probation']);
  }));

  it('tells each broker a report once over each connection: it may come back without what it retained', () => running(async ({ brokers: [home, other], users, desire }) => {
    users[0].connected?.(home.link);
    desire('network', 1, 'yard');
    await until('the trial', () => home.states('network').at(-1) === 'probation');
    users[1].connected?.(other.link);
    await until('the other to know', () => other.states('network').at(-1) === 'probation');
    assert.deepEqual([other.states('network'), home.states('network').filter((state) => state === 'probation').length], [['probation'], 1]);
    users[1].connected?.(other.link);
    await until('the other to hear it again', () => other.states('network').length === 2);
    assert.deepEqual([other.states('network'), home.states('network').filter((state) => state === 'probation').length], [['probation', 'probation'], 1]);
  }));

  it('counts what is delivered again, and feeds nothing twice', () => running(async ({ twins, brokers: [home], users, counters, drafts, desire }) => {
    users[0].connected?.(home.link);
    desire('site', 1, 'hall');
    await until('the trial', () => home.states('site').at(-1) === 'probation');
    const entries = drafts.length;
    desire('site', 1, 'hall');
    users[0].receive(twinTopic(GATEWAY, 'site', 'desired'), new Uint8Array());
    assert.deepEqual([counters.snapshot()['twin.redelivered'], drafts.length, twins.site.value], [1, entries, 'hall']);
  }));
});
