/** `tenzro fleet revoke-key`: takes keys back on every gateway, also on those that are away now. Signed here, with an owner's key. */
import { readFileSync } from 'node:fs';
import { systemClock } from '#runtime/core/clock.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { isJsonObject, type Json } from '#runtime/core/json.ts';
import { callController } from '#runtime/controller/apiClient.ts';
import { filesOf } from '#runtime/controller/house.ts';
import { derOfFile } from '#runtime/crypto/certificatePath.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { parseRevocation, signRevocation, spkiDigestOf, type RevocationList } from '#runtime/crypto/revocation.ts';
import { parseCertificate } from '#runtime/crypto/x509.ts';
import type { Io } from '../io.ts';
import { openOwnerKey, publicKeyIn, type OwnerFlags } from './owner.ts';

export interface RevokeKeyFlags extends OwnerFlags {
  readonly public?: string;
  readonly certificate?: string;
  readonly receiptKey?: string;
  readonly next?: string;
  readonly why: string;
  readonly json?: boolean;
}

type Taken = Partial<Pick<RevocationList, 'keys' | 'authorities' | 'receiptKeys'>>;

/** Throws `cli.usage`, `fleet.key`, `fleet.file`, `fleet.revocation`, `controller.*`. */
export async function fleetRevokeKey(io: Io, kid: string | undefined, flags: RevokeKeyFlags): Promise<void> {
  const taken = takenOf(kid, flags);
  const signer = await openOwnerKey(io, flags);
  const own = thumbprintOf(signer.publicKey);
  const { lists } = await callController(flags.dir, 'revocations.list', {});
  const before = heldList(lists, own, signer.publicKey);
  const issued = Math.floor(systemClock.wallMicros() / 1_000_000);
  const list: RevocationList = {
    version: Math.max((before?.version ?? 0) + 1, issued), issued, authority: spkiDigestOf(parseCertificate(certificateIn(filesOf(flags.dir).ca)).spki),
    keys: [...before?.keys ?? [], ...taken.keys ?? []], authorities: [...before?.authorities ?? [], ...taken.authorities ?? []], receiptKeys: [...before?.receiptKeys ?? [], ...taken.receiptKeys ?? []],
  };
  await callController(flags.dir, 'revocations.submit', { message: signRevocation(signer, list).toString('utf8') });
  if (flags.json) return io.json({ signedBy: own, version: list.version, keys: list.keys, authorities: list.authorities, receiptKeys: list.receiptKeys });
  io.line(`signed with ${own}: version ${list.version}. Gateways that are connected obey within moments, others when they come back`);
}

function takenOf(kid: string | undefined, { public: file, certificate, receiptKey, next, why }: RevokeKeyFlags): Taken {
  const named = [kid, file, certificate, receiptKey].filter((one) => one !== undefined);
  if (named.length !== 1) throw new TenzroError('cli.usage', 'name one thing: a key by its thumbprint, --public, --certificate or --receipt-key');
  if ((receiptKey === undefined) !== (next === undefined)) throw new TenzroError('cli.usage', '--receipt-key and --next belong together');
  if (receiptKey !== undefined && next !== undefined) return { receiptKeys: [{ key: receiptKey, next, why }] };
  if (certificate !== undefined) return { authorities: [{ spki: spkiDigestOf(parseCertificate(certificateIn(certificate)).spki), why }] };
  return { keys: [{ kid: kid ?? thumbprintOf(publicKeyIn(file ?? '')), why }] };
}

/** What that key signed before: the controller's word for it is not taken. */
function heldList(lists: Json | undefined, kid: string, publicKey: Uint8Array): RevocationList | undefined {
  const held = Array.isArray(lists) ? (lists as readonly Json[]).find((list) => isJsonObject(list) && list['kid'] === kid) : undefined;
  if (!isJsonObject(held) || typeof held['message'] !== 'string') return undefined;
  const signed = parseRevocation(Buffer.from(held['message'], 'utf8'));
  if (!signed.isSignedBy(publicKey)) throw new TenzroError('fleet.revocation', 'what the controller calls the list of this key is not signed by it: sign nothing, and look at the controller');
  return signed.list;
}

function certificateIn(path: string): Uint8Array {
  try {
    const [certificate] = derOfFile(readFileSync(path), CERTIFICATES_MAX) ?? [];
    if (certificate) return certificate;
  } catch (cause) {
    throw new TenzroError('fleet.file', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  throw new TenzroError('fleet.file', `${path} holds no certificate`);
}

const CERTIFICATES_MAX = 8;
