/** A fleet's own broker in this process, over a real folder and a real LMDB, with a register that the test fills. */
import { mkdirSync } from 'node:fs';
import { createPublicKey } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '#runtime/core/clock.ts';
import { toHex } from '#runtime/core/bytes.ts';
import type { FleetLink, LinkUser } from '#runtime/core/ports.ts';
import { buildHouse, openHouse, type ControllerHouse } from '#runtime/controller/house.ts';
import { clientCertificate, clientKey } from '#runtime/crypto/clientIdentity.ts';
import { spkiPin } from '#runtime/crypto/certificate.ts';
import { newSeed, signerOfSeed, type Signer } from '#runtime/crypto/mldsa.ts';
import { openFleetBroker, type FleetBroker } from '#runtime/fleetBroker.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { Hub } from '#runtime/link/hub.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { connectClient, type TestClient } from './mqttClient.ts';
import { silentLog } from './sealHarness.ts';

const PASSPHRASE = Buffer.from('correct horse battery');

export async function makeHouse(dir: string): Promise<ControllerHouse> {
  await buildHouse({ dir, name: 'test', hosts: ['localhost'], policy: 'version: 1\n', passphrase: PASSPHRASE, nowMs: Math.floor(systemClock.wallMicros() / 1_000) });
  return openHouse(dir, PASSPHRASE);
}

/** Of gateways by their keys; tells who changed. */
class TestRegister {
  readonly #byKey = new Map<string, string>();
  readonly #watchers = new Set<(gateway: string) => void>();

  add(gateway: string, { privateKey }: Signer): void { if (privateKey) this.#byKey.set(toHex(spkiPin(createPublicKey(privateKey))), gateway); }
  remove(gateway: string): void {
    for (const [key, name] of this.#byKey) if (name === gateway) this.#byKey.delete(key);
    for (const tell of this.#watchers) tell(gateway);
  }
  touch(gateway: string): void { for (const tell of this.#watchers) tell(gateway); }
  admits(digest: Uint8Array): string | undefined { return this.#byKey.get(toHex(digest)); }
  watch(onChange: (gateway: string) => void): Disposable {
    this.#watchers.add(onChange);
    return { [Symbol.dispose]: () => { this.#watchers.delete(onChange); } };
  }
}

export interface Ear extends LinkUser {
  readonly heard: string[];
  readonly links: FleetLink[];
}

export const earFor = (...filters: readonly string[]): Ear => {
  const [heard, links]: [string[], FleetLink[]] = [[], []];
  return { filters, heard, links, receive: (topic, payload) => { heard.push(`${topic} ${Buffer.from(payload).toString()}`); }, connected: (link) => { links.push(link); } };
};

export interface FleetDoor extends AsyncDisposable {
  readonly broker: FleetBroker;
  readonly port: number;
  readonly register: TestRegister;
  readonly counters: CounterTable;
  /** As the gateway of that identity key; unless `options` say otherwise. */
  connectAs(signer: Signer, options?: Parameters<typeof connectClient>[1]): Promise<TestClient>;
  /** Without certificate. */
  connect(options?: Parameters<typeof connectClient>[1]): Promise<TestClient>;
}

export const newSigner = (): Signer => signerOfSeed(newSeed());

export async function openFleetDoor(dir: string, house: ControllerHouse, users: readonly LinkUser[] = [], register = new TestRegister()): Promise<FleetDoor> {
  await using opening = new AsyncDisposableStack();
  mkdirSync(dir, { recursive: true });
  const counters = new CounterTable();
  const store = opening.use(await openKeyValueStore(join(dir, 'parts')));
  const broker = opening.use(await openFleetBroker({ dir, house, store, clock: systemClock, counters, log: silentLog }, { listen: { host: '127.0.0.1', port: 0 }, register, hub: new Hub(users, silentLog), onStoreState: () => undefined }));
  const opened = opening.move();
  const port = Number(new URL(broker.url).port);
  const connect: FleetDoor['connect'] = (options = {}) => connectClient(port, { protocol: 'mqtts', host: 'localhost', ca: house.authority.rootPem, ...options });
  return {
    broker, port, register, counters, connect,
    connectAs: (signer, options = {}) => connect({ cert: clientCertificate(signer, 'any name'), key: clientKey(signer), ...options }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
