/** `tenzro confidential keygen | open`: the recipient's side. Needs no gateway and no data directory. */
import { writeFileSync } from 'node:fs';
import { toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { KIND, type Entry } from '#runtime/core/types.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { exchangeKeyOfSeed, newExchangeSeed, type ExchangeKey } from '#runtime/crypto/xwing.ts';
import { privateKeyPem, publicKeyPem, seedOfPem } from '#runtime/crypto/xwingPem.ts';
import { decodeBundleBody, openBundle } from '#runtime/ledger/bundle.ts';
import { contentKeyOf, keyEpochOf, openBody, sealedOf } from '#runtime/ledger/confidential.ts';
import { decodeEntry } from '#runtime/ledger/entry.ts';
import { viewEntry } from '#runtime/verify/entryView.ts';
import { EXIT_CODE, renderReport } from '#runtime/verify/report.ts';
import { verifyBundle } from '#runtime/verify/verifier.ts';
import type { Io } from './io.ts';
import { renderEntryLine } from './render.ts';
import { policyOf, read } from './verify.ts';

const OWNER_ONLY = 0o600;

export function confidentialKeygen(io: Io, { output, json }: { readonly output: string; readonly json?: boolean }): void {
  const seed = newExchangeSeed();
  const { publicKey } = exchangeKeyOfSeed(seed);
  const publicKeyFile = `${output}.pub`;
  writeNew(output, privateKeyPem(seed), OWNER_ONLY);
  seed.fill(0);
  writeNew(publicKeyFile, publicKeyPem(publicKey));
  const keyId = toHex(sha256(publicKey));
  if (json) return io.json({ file: output, publicKeyFile, keyId });
  io.line(`${printable(output)}: private key. Whoever has it reads every confidential entry: keep it away from the gateway, and keep a copy.`);
  io.line(`${printable(publicKeyFile)}: public key ${keyId.slice(0, 16)}…, for the gateway's configuration:`);
  io.line(`  confidential: { recipients: [{ name: owner, publicKeyFile: ${printable(publicKeyFile)} }] }`);
}

/** Throws `confidential.key`, `confidential.not_recipient`, `confidential.no_epoch`, `hpke.open`. */
export function confidentialOpen(io: Io, file: string, { key: keyFile, policy, json }: { readonly key: string; readonly policy?: string; readonly json?: boolean }): void {
  const key = readKey(keyFile);
  const bytes = read(file);
  const report = verifyBundle(bytes, policyOf(policy));
  io.exitCode = EXIT_CODE[report.outcome];
  const entries = report.outcome === 'verified' ? openAll(bytes, key) : [];
  if (json) {
    const { outcome, trust, checks, subject: { chainId, device } } = report;
    return io.json({ file, outcome, trust, subject: { chainId, device, entries: entries.map(({ index, entry }) => viewEntry(index, entry)) }, checks });
  }
  if (report.outcome !== 'verified') {
    for (const line of renderReport(report, { colour: io.color })) io.line(line);
    return io.line('Nothing was opened: what does not verify is not worth reading.');
  }
  io.line(`${io.paint('VERIFIED', 'green')} chain ${report.subject.chainId}, device ${printable(report.subject.device)}, trust ${report.trust.level}`);
  for (const { index, entry } of entries) io.line(renderEntryLine(index, entry));
  if (entries.length === 0) io.line('No entry in it is confidential: tenzro verify shows them all.');
}

/** The confidential entries of a proof, each with its body in clear. */
function openAll(file: Uint8Array, key: ExchangeKey): readonly { readonly index: number; readonly entry: Entry }[] {
  const all = decodeBundleBody(openBundle(file).body).entries.map(({ index, bytes }) => ({ index, entry: decodeEntry(bytes) }));
  const epochs = new Map(all.filter(({ entry }) => entry.kind === KIND.keyEpoch).map(({ entry }) => {
    const epoch = keyEpochOf(entry.body);
    return [toHex(epoch.context), epoch] as const;
  }));
  const keys = new Map<string, Buffer>();
  try {
    return all.flatMap(({ index, entry }) => {
      const sealed = sealedOf(entry.body);
      if (!sealed) return [];
      const context = toHex(sealed.context);
      const epoch = epochs.get(context);
      if (!epoch) throw new TenzroError('confidential.no_epoch', `the proof lacks the keyEpoch entry of entry ${index}, or the gateway had pruned it`);
      const contentKey = keys.get(context) ?? contentKeyOf(epoch, key);
      keys.set(context, contentKey);
      return [{ index, entry: { ...entry, body: openBody(entry, contentKey) } }];
    });
  } finally {
    for (const contentKey of keys.values()) contentKey.fill(0);
  }
}

function readKey(path: string): ExchangeKey {
  const seed = seedOfPem(read(path).toString('utf8'));
  try {
    return exchangeKeyOfSeed(seed);
  } finally {
    seed.fill(0);
  }
}

/** A key that is there already is never overwritten: what was sealed to it would be lost. */
function writeNew(path: string, text: string, mode?: number): void {
  try {
    writeFileSync(path, text, { flag: 'wx', ...(mode === undefined ? {} : { mode }) });
  } catch (cause) {
    throw new TenzroError('cli.usage', `cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}
