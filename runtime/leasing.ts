/** The composition root of the lease: joins the verifier over HTTPS, enrolment with the TPM, the ledger and the gateway's keys. */
import { readFileSync } from 'node:fs';
import { activatorOf } from '#drivers/tpm2/activate.ts';
import type { Tpm } from '#drivers/tpm2/tpm.ts';
import { openVault } from '#drivers/tpm2/vault.ts';
import { answerChallenge } from '#provisioning/enrolment/gateway.ts';
import { encodeRequest } from '#provisioning/enrolment/messages.ts';
import { hierarchyAuthOf } from '#provisioning/identity/secrets.ts';
import type { FreshProofs } from '#runtime/attest/freshProofs.ts';
import type { Clock } from '#runtime/core/clock.ts';
import { TenzroError, invariant, messageOf } from '#runtime/core/errors.ts';
import type { Counters, KeyValueStore, Log } from '#runtime/core/ports.ts';
import type { Settings } from '#runtime/core/settings.ts';
import type { Maybe } from '#runtime/core/types.ts';
import { parseSign1 } from '#runtime/crypto/cose.ts';
import { chainIdOf, decodeBlock, type Identity } from '#runtime/ledger/block.ts';
import { decodeBlockHeader } from '#runtime/ledger/blockHeader.ts';
import type { ChainReader } from '#runtime/ledger/reader.ts';
import type { WriterClient } from '#runtime/ledger/writerClient.ts';
import { VerifierClient } from '#runtime/lease/client.ts';
import { EnrolmentRecord, type Enrollee } from '#runtime/lease/enrolment.ts';
import { LeaseKeeper, type TrustMessage } from '#runtime/lease/keeper.ts';
import type { GatewayIdentity } from './identity.ts';

export interface LeasingOptions {
  readonly settings: Settings;
  readonly writer: WriterClient;
  readonly reader: ChainReader;
  /** Undefined without one. */
  readonly tpm: Tpm | undefined;
  readonly identity: GatewayIdentity;
  /** A bundle whose head is a block over the nonce. */
  readonly freshBundle: FreshProofs['freshBundle'];
  readonly store: KeyValueStore;
  /** MUST NOT throw. */
  readonly onTrust: (message: TrustMessage) => void;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: Log;
}

/** Undefined where no verifier is configured. */
export function openLeasing({ settings, writer, reader, tpm, identity, freshBundle, store, onTrust, ...ports }: LeasingOptions): LeaseKeeper | undefined {
  const { url, caFile, key } = settings.verifier;
  if (url === '') return undefined;
  const verifierKey = Buffer.from(key, 'hex');
  const enrollee: Maybe<Enrollee> = tpm ? { kind: 'value', value: enrolleeOf(tpm, reader, identity) } : { kind: 'none', reason: 'there is no TPM' };
  return new LeaseKeeper({
    ...ports, url, verifierKey, device: settings.node.name, client: new VerifierClient({ url, ca: () => certificatesOf(caFile) }),
    enrolment: new EnrolmentRecord({ ...ports, enrollee, verifierKey, store, entry: (index) => reader.entry(index), writer }),
    signer: async () => (await identity.keys()).signer,
    chainId: () => (reader.blockCount() === 0 ? undefined : chainIdOf(reader.block(0).payload)),
    freshBundle, writer, announce: onTrust,
  });
}

/** Throws `config.unreadable`: no lease then, and the gateway records on. */
function certificatesOf(caFile: string): string | string[] {
  if (caFile === '') return process.getBuiltinModule('node:tls').getCACertificates('system');
  try {
    return readFileSync(caFile, 'utf8');
  } catch (cause) {
    throw new TenzroError('config.unreadable', `verifier.caFile: cannot read ${caFile}: ${messageOf(cause)}`, { cause });
  }
}

/** `request` needs a genesis. */
export function enrolleeOf(tpm: Tpm, reader: ChainReader, identity: GatewayIdentity): Enrollee {
  return {
    async request() {
      const { chainId, device, identity: { akPublic, ekPublic, ekCertificate, ekChain = [], signingKey, exchangeKey } } = genesisOf(reader);
      if (!akPublic || !ekPublic) throw new TenzroError('lease.enrolment', 'the chain began without a TPM');
      return encodeRequest({ device, chainId, ekPublic, akPublic, signingKey, certificates: ekCertificate ? [ekCertificate, ...ekChain] : [], ...(exchangeKey ? { exchangeKey } : {}) });
    },
    async answer(request, challenge, signer, signal) {
      const { akPublic, ekPublic } = genesisOf(reader).identity;
      invariant(akPublic && ekPublic, 'a request came first');
      const auth = await endorsementAuth(tpm, identity, signal);
      try {
        return await answerChallenge(request, challenge, { activator: activatorOf(tpm, { ekPublic, akPublic, ...(auth ? { endorsementAuth: auth } : {}) }), signer }, signal);
      } finally {
        auth?.fill(0);
      }
    },
  };
}

/** Of the endorsement hierarchy, where it has an authorisation: the sealed keys know it. The caller zeroes it. */
async function endorsementAuth(tpm: Tpm, identity: GatewayIdentity, signal: AbortSignal): Promise<Buffer | undefined> {
  if (!(await openVault(tpm).ownership(signal)).endorsement) return undefined;
  const auth = await identity.keeper.withSecrets(({ tpmSecret }) => Promise.resolve(hierarchyAuthOf(tpmSecret)), signal);
  const endorsement = Buffer.from(auth.endorsement);
  for (const value of Object.values(auth) as Buffer[]) value.fill(0);
  return endorsement;
}

function genesisOf(reader: ChainReader): { readonly chainId: Uint8Array; readonly device: string; readonly identity: Identity } {
  const { payload, cose } = reader.block(0);
  const { identity } = decodeBlock(payload);
  invariant(identity, 'a genesis has an identity');
  return { chainId: chainIdOf(payload), device: decodeBlockHeader(parseSign1(cose).header).device, identity };
}
