/** A process of simulated gateways. */
import { setInterval } from 'node:timers/promises';
import { until } from '#test/support/until.ts';
import { nowMs } from '../fleet/clock.ts';
import { serve } from '../fleet/crew.ts';
import { SimulatedGateway, type SimulatedOptions } from '../fleet/simulated.ts';

const gateways: SimulatedGateway[] = [];
const TIMEOUT_MS = 180_000;

export interface MakeOptions { readonly names: readonly string[]; readonly blocks: number; readonly entriesPerBlock: number }
export interface Made { readonly keys: readonly { readonly name: string; readonly publicKey: Uint8Array }[]; readonly ms: number }
/** By CLOCK_MONOTONIC: when the last gateway was connected; when the first and the last receipt since `seal` came. */
export interface Standing {
  readonly connectedAtMs: number;
  readonly firstReceiptAtMs: number;
  readonly lastReceiptAtMs: number;
}

const methods = {
  make({ names, blocks, entriesPerBlock }: MakeOptions): Made {
    const from = nowMs();
    gateways.push(...names.map((name) => new SimulatedGateway(name, blocks, entriesPerBlock)));
    return { keys: gateways.map(({ name, publicKey }) => ({ name, publicKey })), ms: nowMs() - from };
  },
  async start(options: SimulatedOptions): Promise<Standing> {
    for (const gateway of gateways) gateway.start(options);
    await until('all gateways to be connected', () => gateways.every(({ isReady }) => isReady), { timeoutMs: TIMEOUT_MS });
    return standing();
  },
  /** Resolves when all of them are receipted. */
  async seal({ blocks, pace }: { readonly blocks: number; readonly pace: 'at once' | 'one by one' }): Promise<Standing> {
    for (const gateway of gateways) gateway.seal(blocks, pace);
    await until('all receipts', () => gateways.every(({ hasAllReceipts }) => hasAllReceipts), { timeoutMs: TIMEOUT_MS, intervalMs: 5 });
    return standing();
  },
  /** One gateway after the other seals a block. Milliseconds from sending it to its receipt, for each. */
  async live({ perS, seconds }: { readonly perS: number; readonly seconds: number }): Promise<readonly number[]> {
    const sealing = Array.from({ length: perS * seconds }, (_, at) => gateways[at % gateways.length]).flatMap((gateway) => gateway ?? []);
    const told: Promise<number>[] = [];
    for await (const _ of setInterval(1_000 / perS)) {
      const next = sealing[told.length];
      if (!next) break;
      told.push(next.sealed());
    }
    return Promise.all(told);
  },
};

const standing = (): Standing => ({
  connectedAtMs: Math.max(...gateways.map(({ connectedAtMs }) => connectedAtMs)), firstReceiptAtMs: Math.min(...gateways.map(({ firstReceiptAtMs }) => firstReceiptAtMs)),
  lastReceiptAtMs: Math.max(...gateways.map(({ receiptAtMs }) => receiptAtMs)),
});

export type GatewayMethods = typeof methods;

serve(methods);
