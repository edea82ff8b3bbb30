/** A fleet as a newcomer runs it: `tenzro fleet init`, then `tenzro fleet serve` with its own broker, in its own process; gateways come in by their keys. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { callController } from '#runtime/controller/apiClient.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { newSigner } from './fleetDoor.ts';
import { tenzro } from './gateway.ts';
import { freePort, Program } from './process.ts';
import { decodeBlock } from '#runtime/ledger/block.ts';
import { openReader } from '#runtime/ledger/reader.ts';
import { until } from './until.ts';

export const PASSPHRASE = 'correct horse battery';
const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');
/** Gateways of tests have no TPM. */
const POLICY = 'version: 1\naccept: [dtpm, enrolled, emulated, software]\n';

export interface OwnFleet {
  readonly home: string;
  readonly receiptKey: string;
  readonly port: number;
  /** Starts it, also after a kill; resolves when it serves. */
  start(): Promise<Program>;
  /** The gateway whose chain lies in `dataDir`, as a claim would: into the running controller. */
  register(name: string, dataDir: string): Promise<void>;
  status(): Promise<JsonObject>;
  /** Lines of a configuration. */
  gatewayConfig(name: string): string;
}

/** `home` is made in `dir`, or is a folder that is there and empty. */
export async function makeOwnFleet(dir: string, home = join(dir, 'fleet')): Promise<OwnFleet> {
  const passphraseFile = join(dir, 'passphrase');
  writeFileSync(passphraseFile, `${PASSPHRASE}\n`, { mode: 0o600 });
  const made = await tenzro(dir, ['fleet', 'init', '--dir', home, '--name', 'test', '--host', 'localhost', '--passphrase-file', passphraseFile, '--json']);
  if (made.code !== 0) throw new Error(made.output);
  const { receiptKey } = JSON.parse(made.stdout) as { readonly receiptKey: string };
  writeFileSync(join(home, 'policy.yaml'), POLICY);
  const port = await freePort();
  return {
    home, receiptKey, port,
    async start() {
      const program = new Program(process.execPath, [COMMAND, 'fleet', 'serve', '--dir', home, '--listen', `127.0.0.1:${port}`, '--passphrase-file', passphraseFile]);
      await until('the controller', () => program.stdout.includes('controller ready'), { timeoutMs: 30_000, hopeless: () => (program.running ? undefined : program.output) });
      return program;
    },
    async register(name, dataDir) {
      await using reader = await openReader(dataDir);
      const signingKey = decodeBlock(reader.block(0).payload).identity?.signingKey;
      if (!signingKey) throw new Error('the chain has no genesis');
      const claim = { name, claimId: '0a1b' };
      await callController(home, 'gateways.begin', { ...claim, signingKey: Buffer.from(signingKey).toString('base64'), ownerKeys: [Buffer.from(newSigner().publicKey).toString('base64')] });
      await callController(home, 'gateways.claimed', claim);
    },
    status: () => callController(home, 'controller.status', {}),
    gatewayConfig: (name) => [
      'version: 1', `node: { name: ${name} }`, 'system: { intervalMs: 500 }', 'infer: { enabled: false }', 'attest: { intervalMs: 1000, idleIntervalMs: 1000, tpm: { mode: none } }',
      'uplinks:', `  - { name: fleet, url: "mqtts://localhost:${port}", caFile: ${join(home, 'ca.pem')}, certificate: true, receiptKey: "${receiptKey}" }`, '',
    ].join('\n'),
  };
}
