/** What the command line may ask about gateways and acts. `who` is the caller's word: whoever reaches the socket owns the folder. */
import { toHex } from '#runtime/core/bytes.ts';
import { isoOfMicros } from '#runtime/core/clock.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { KeyValueStore } from '#runtime/core/ports.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { thumbprintOf } from '#runtime/crypto/jws.ts';
import { MLDSA65, spkiOfMlDsa65 } from '#runtime/crypto/mldsa.ts';
import { parseEnrolment } from '#runtime/ledger/enrolment.ts';
import type { ActBook } from './acts.ts';
import { readActs } from './acts.ts';
import { decodeAct, type RecordedAct } from './actsCodec.ts';
import type { Api } from './api.ts';
import type { Chains } from './chains.ts';
import type { Candidate, RegisteredGateway, Register } from './register.ts';

export interface RegisterApiOptions {
  readonly register: Register;
  readonly chains: Chains;
  readonly acts: ActBook;
  readonly store: KeyValueStore;
}

const ACTS_AT_ONCE = 1_000;
const SOCKET = 'socket';

export function registerApi({ register, chains, acts, store }: RegisterApiOptions): Api {
  return {
    'gateways.begin': async (parameters) => viewOfGateway(await register.begin(candidateOf(parameters), whoOf(parameters))),
    'gateways.claimed': async (parameters) => viewOfGateway(await register.claimed(textOf(parameters, 'name'), textOf(parameters, 'claimId'), whoOf(parameters))),
    'gateways.abandoned': async (parameters) => {
      await register.abandoned(textOf(parameters, 'name'), textOf(parameters, 'claimId'), whoOf(parameters));
      return {};
    },
    'gateways.released': async (parameters) => viewOfGateway(await register.released(textOf(parameters, 'name'), whoOf(parameters))),
    'gateways.rotated': async (parameters) => viewOfGateway(await register.rotated(textOf(parameters, 'name'), keysOf(parameters).map(thumbprintOf), whoOf(parameters))),
    'gateways.revoke': async (parameters) => viewOfGateway(await register.revoke(textOf(parameters, 'name'), textOf(parameters, 'why', ''), whoOf(parameters))),
    'gateways.forget': async (parameters) => ({ outcome: await forget(textOf(parameters, 'target'), whoOf(parameters), { register, chains, acts }) }),
    'gateways.list': async () => ({ gateways: register.all().map(viewOfGateway) }),
    'gateways.show': async (parameters) => {
      const gateway = register.get(textOf(parameters, 'name'));
      if (!gateway) throw new TenzroError('controller.unknown', 'no gateway of that name is in the register');
      return viewOfGateway(gateway);
    },
    'acts.list': async (parameters) => ({ acts: actsFrom(store, countOf(parameters, 'from'), Math.min(ACTS_AT_ONCE, countOf(parameters, 'count', ACTS_AT_ONCE))) }),
  };
}

/** A gateway by its name; a chain by its id: one that forked is taken again, as far as it was taken before. Throws `controller.unknown`, `controller.taken`. */
async function forget(target: string, who: string, { register, chains, acts }: Omit<RegisterApiOptions, 'store'>): Promise<string> {
  const record = chains.record(target);
  if (!record) {
    const outcome = await register.forget(target, who);
    if (outcome === 'unfrozen') for (const [chain, { gateway, fork }] of chains.all()) if (fork && gateway === target) await unfreeze(chain, who, { chains, acts });
    return outcome;
  }
  if (!record.fork) throw new TenzroError('controller.request', `chain ${target} is not frozen`);
  await unfreeze(target, who, { chains, acts });
  return register.get(record.gateway)?.frozen ? register.forget(record.gateway, who) : 'unfrozen';
}

async function unfreeze(chain: string, who: string, { chains, acts }: Pick<RegisterApiOptions, 'chains' | 'acts'>): Promise<void> {
  const record = chains.record(chain);
  if (!record?.fork) return;
  const { fork, ...others } = record;
  acts.note({ who, what: 'chain.unfrozen', about: chain, detail: `goes on from block ${record.head?.sequence ?? 0}; it had forked at block ${fork.sequence}, the other block was ${toHex(fork.theirs)}` });
  await chains.commit(chain, { record: others });
}

/** Names are those of `--json`. */
export const viewOfGateway = ({ statement, ownerKeys, certificate, tpm, sinceMicros, claimedMicros, frozen, chains, ...plain }: RegisteredGateway): JsonObject => ({
  ...plain, since: isoOfMicros(sinceMicros), claimedAt: claimedMicros === undefined ? null : isoOfMicros(claimedMicros), tpm: tpm ?? null, isEnrolled: statement !== undefined, ownerKeys: [...ownerKeys], chains: [...chains],
  certificate: certificate ? { serial: certificate.serial, notBefore: isoOfMicros(certificate.notBeforeMs * 1_000), notAfter: isoOfMicros(certificate.notAfterMs * 1_000) } : null,
  frozen: frozen ? { since: isoOfMicros(frozen.sinceMicros), why: frozen.why } : null,
});

export const viewOfAct = ({ index, micros, who, what, about, detail }: RecordedAct): JsonObject => ({ index, at: isoOfMicros(micros), who, what, about, detail });

function actsFrom(store: KeyValueStore, from: number, count: number): readonly JsonObject[] {
  return readActs(store, from).take(count).map((cose) => viewOfAct(decodeAct(cose))).toArray();
}

/** Throws `controller.request`, also for an enrolment statement that no owner signed, or that is about another gateway. */
function candidateOf(parameters: JsonObject): Candidate {
  const [signingKey, owners, ak, ek] = [bytesOf(parameters, 'signingKey'), keysOf(parameters), digestOf(parameters, 'ak'), digestOf(parameters, 'ek')];
  const statement = parameters['statement'] === undefined ? undefined : bytesOf(parameters, 'statement');
  const claimId = textOf(parameters, 'claimId');
  if (signingKey.length !== MLDSA65.publicKeyBytes) throw bad('signingKey is no ML-DSA-65 public key');
  if (!/^[0-9a-f]{2,128}$/.test(claimId)) throw bad('claimId is not lower-case hexadecimal');
  if ((ak === undefined) !== (ek === undefined)) throw bad('ak and ek belong together');
  const identityKey = toHex(sha256(signingKey));
  if (statement) checkStatement(statement, owners, { identityKey, ak, ek });
  return {
    name: textOf(parameters, 'name'), claimId, identityKey, spki: toHex(sha256(spkiOfMlDsa65(signingKey))), ownerKeys: owners.map(thumbprintOf),
    ...(ak === undefined || ek === undefined ? {} : { tpm: { ak, ek } }), ...(statement ? { statement } : {}),
  };
}

function checkStatement(statement: Uint8Array, owners: readonly Uint8Array[], { identityKey, ak, ek }: { readonly identityKey: string; readonly ak: string | undefined; readonly ek: string | undefined }): void {
  const { enrolment: { tuple }, keyDigest, isSigned } = parseEnrolment(statement);
  if (!owners.some((key) => sha256(key).equals(keyDigest)) || !isSigned()) throw bad('no owner signed the enrolment statement');
  if (toHex(tuple.signingKey) !== identityKey || toHex(tuple.ak) !== ak || toHex(tuple.ek) !== ek) throw bad('the enrolment statement is about another gateway');
}

const bad = (why: string): TenzroError => new TenzroError('controller.request', why);
const TEXT_MAX = 512;
const KEYS_MAX = 8;

function textOf(parameters: JsonObject, name: string, otherwise?: string): string {
  const value = parameters[name] ?? otherwise;
  if (typeof value !== 'string' || value.length > TEXT_MAX) throw bad(`${name} must be a text of at most ${TEXT_MAX} characters`);
  return value;
}
const whoOf = (parameters: JsonObject): string => textOf(parameters, 'who', SOCKET);

function countOf(parameters: JsonObject, name: string, otherwise = 0): number {
  const value = parameters[name] ?? otherwise;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw bad(`${name} must be a whole number`);
  return value;
}

function digestOf(parameters: JsonObject, name: string): string | undefined {
  const value = parameters[name];
  if (value !== undefined && (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value))) throw bad(`${name} must be 64 lower-case hexadecimal digits`);
  return value;
}

const bytesOf = (parameters: JsonObject, name: string): Buffer => base64Of(parameters[name], name);
function base64Of(value: unknown, name: string): Buffer {
  const bytes = Buffer.from(typeof value === 'string' ? value : '', 'base64');
  if (bytes.length === 0 || bytes.toString('base64') !== value) throw bad(`${name} must be base64`);
  return bytes;
}

function keysOf(parameters: JsonObject): readonly Buffer[] {
  const value = parameters['ownerKeys'];
  if (!Array.isArray(value) || value.length === 0 || value.length > KEYS_MAX) throw bad(`ownerKeys must be a list of 1 to ${KEYS_MAX}`);
  return value.map((key: unknown, at) => {
    const bytes = base64Of(key, `ownerKeys[${at}]`);
    if (bytes.length !== MLDSA65.publicKeyBytes) throw bad(`ownerKeys[${at}] is no ML-DSA-65 public key`);
    return bytes;
  });
}
