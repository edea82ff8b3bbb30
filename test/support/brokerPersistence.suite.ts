/** aedes-persistence's public abstract suite over our persistence on a real LMDB; run with `node --test`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { Persistence } from '#runtime/broker/persistence.ts';
import { openKeyValueStore } from '#runtime/ledger/kv.ts';

const abstract = createRequire(import.meta.url)('aedes-persistence/abstract.js') as (options: object) => void;
const dir = await mkdtemp(path.join(tmpdir(), 'tenzro-persistence-'));
after(() => rm(dir, { recursive: true, force: true }));

let opened = 0;
abstract({
  test,
  testAsync: true,
  persistence: async () => {
    const kv = await openKeyValueStore(path.join(dir, String(opened++)));
    const persistence = new Persistence(kv, () => {});
    const destroy = persistence.destroy.bind(persistence);
    persistence.destroy = async () => {
      await destroy();
      await kv[Symbol.asyncDispose]();
    };
    return persistence;
  },
});
