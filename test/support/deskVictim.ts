/** Desk and roll-outs of a controller in a process that a test can kill: `node deskVictim.ts '<DeskVictimOptions as JSON>'` prints `ready` when it is connected. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Acts } from '#runtime/controller/acts.ts';
import { openApi } from '#runtime/controller/api.ts';
import { systemClock as clock } from '#runtime/core/clock.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { openDispatch } from '#runtime/dispatching.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';
import { Hub } from '#runtime/link/hub.ts';
import { openLink } from '#runtime/link/mqttLink.ts';
import { CounterTable } from '#runtime/observe/counters.ts';
import { createLog } from '#runtime/observe/log.ts';

export interface DeskVictimOptions {
  readonly dir: string;
  readonly url: string;
  readonly caFile: string;
  readonly user?: string;
  readonly password?: string;
  /** Of the owner, base64. */
  readonly publicKey: string;
}

const { dir, url, caFile, publicKey, ...login } = JSON.parse(process.argv[2] ?? '') as DeskVictimOptions;
const stop = new AbortController();
process.once('SIGTERM', () => { stop.abort(); });
const log = createLog({ level: 'info', form: 'json', color: false });
const counters = new CounterTable();
await using resources = new AsyncDisposableStack();
const store = resources.use(await openKeyValueStore(join(dir, 'store'), undefined, 'keep'));
const owner = Buffer.from(publicKey, 'base64');
const operators = [{ name: 'owner-1', publicKey: owner, kid: thumbprintOf(owner), may: ['*', 'shell', 'driver_call', 'release'] }];
const part = openDispatch({ store, clock, counters, log }, { acts: new Acts(store, signerOfSeed(Buffer.alloc(32, 7)), clock), operators: () => operators });
const hub = new Hub(part.users ?? [], log);
const link = resources.use(openLink({ url, ca: readFileSync(caFile, 'utf8'), ...login, clientId: 'te-controller-victim', hub }));
resources.use(await openApi(dir, part.api ?? {}, log));
link.ready(stop.signal).then((isReady) => { if (isReady) process.stdout.write('ready\n'); }, () => undefined);
await part.follow?.(stop.signal);
log.info({ counters: counters.snapshot() }, 'stopping');
