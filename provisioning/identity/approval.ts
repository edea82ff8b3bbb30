/**
 * Approvals of boot states, as people read and carry them: JSON. A gateway says what it wants approved (`tenzro identity request`), whoever holds
 * the authority's key signs it on any machine (`tenzro identity approve`), and the gateway keeps it beside the sealed keys. Only the PCR values
 * and the revocation count are signed: everything else is for people.
 */
import type { KeyObject } from 'node:crypto';
import { equalBytes, toHex } from '#runtime/core/bytes.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import type { Approved, BootState, SealingPolicy } from '#runtime/core/ports.ts';
import { authorityPoint, isAuthoritysWord, signAsAuthority } from './authority.ts';

/** The digest that a TPM computes while it compares PCRs and counter with the state: drivers/tpm2 knows. */
export type PolicyOf = (state: BootState) => Uint8Array;

/** What shall be approved. */
export interface ApprovalRequest {
  /** Gateway id: for people. */
  readonly node: string;
  readonly policy: SealingPolicy;
  readonly state: BootState;
}

export interface Approval extends ApprovalRequest, Approved {
  /** Why, or which image: for people. */
  readonly note: string;
}

const REQUEST = 'tenzro identity request 1';
const APPROVAL = 'tenzro identity approval 1';
const APPROVALS = 'tenzro identity approvals 1';
const PCR_MAX = 23;
const TEXT_MAX = 200;
/** Current and next, and some that are not cleared away yet. */
export const APPROVALS_MAX = 16;
export const APPROVAL_BYTES_MAX = 64 * 1024;

export function approve({ node, policy, state }: ApprovalRequest, note: string, key: KeyObject, policyOf: PolicyOf): Approval {
  if (!equalBytes(authorityPoint(key), policy.authority)) throw new TenzroError('identity.authority', 'the key is not that of the authority that the request names');
  return { node, policy, state, note, signature: signAsAuthority(key, message(state, policy, policyOf)) };
}

/** Signed by the authority, for these keys and no others. */
export function isValid(approval: Approval, policy: SealingPolicy, policyOf: PolicyOf): boolean {
  return equalBytes(approval.policy.authority, policy.authority) && equalBytes(approval.policy.policyRef, policy.policyRef)
    && isAuthoritysWord(policy.authority, message(approval.state, policy, policyOf), approval.signature);
}

/** TPM 2.0 Part 3 §23.16, aHash: approvedPolicy ‖ policyRef. */
const message = (state: BootState, { policyRef }: SealingPolicy, policyOf: PolicyOf): Buffer => Buffer.concat([policyOf(state), policyRef]);

export const formatRequest = (request: ApprovalRequest): string => `${JSON.stringify({ tenzro: REQUEST, ...plain(request) }, undefined, 2)}\n`;
export const formatApproval = (approval: Approval): string => `${JSON.stringify({ tenzro: APPROVAL, ...plainApproval(approval) }, undefined, 2)}\n`;
export const formatApprovals = (approvals: readonly Approval[]): string => `${JSON.stringify({ tenzro: APPROVALS, approvals: approvals.map(plainApproval) }, undefined, 2)}\n`;

/** Throws `identity.approval`. */
export const parseRequest = (text: string): ApprovalRequest => readRequest(tagged(text, REQUEST));
/** Throws `identity.approval`. Its signature is not checked. */
export const parseApproval = (text: string): Approval => readApproval(tagged(text, APPROVAL));

/** Throws `identity.approval`. Signatures are not checked. */
export function parseApprovals(text: string): readonly Approval[] {
  const { approvals } = tagged(text, APPROVALS);
  if (!Array.isArray(approvals) || approvals.length > APPROVALS_MAX) throw malformed('approvals is no list of a few');
  return approvals.map((approval) => readApproval(asFields(approval, 'an approval')));
}

/** `{"7": "<64 hex digits>", …}`: reference values that a person gives. Throws `identity.approval`. */
export function parsePcrs(text: string): BootState['pcrs'] { return readPcrs(parsed(text)); }

type Fields = Readonly<Record<string, unknown>>;

const plain = ({ node, policy, state }: ApprovalRequest): Fields => ({
  node, authority: toHex(policy.authority), policyRef: toHex(policy.policyRef), revocation: state.revocation.toString(),
  pcrs: Object.fromEntries(state.pcrs.map(([pcr, value]) => [String(pcr), toHex(value)])),
});
const plainApproval = (approval: Approval): Fields => ({ ...plain(approval), note: approval.note, signature: toHex(approval.signature) });

function readRequest(fields: Fields): ApprovalRequest {
  const { node, authority, policyRef, revocation, pcrs } = fields;
  if (typeof revocation !== 'string' || !/^\d{1,20}$/.test(revocation) || BigInt(revocation) >= 1n << 64n) throw malformed('revocation is no count');
  return { node: asText(node, 'node'), policy: { authority: asHex(authority, 64, 'authority'), policyRef: asHex(policyRef, 32, 'policyRef') }, state: { pcrs: readPcrs(pcrs), revocation: BigInt(revocation) } };
}

const readApproval = (fields: Fields): Approval => ({ ...readRequest(fields), note: asText(fields['note'], 'note'), signature: asHex(fields['signature'], 64, 'signature') });

function readPcrs(value: unknown): BootState['pcrs'] {
  const entries = Object.entries(asFields(value, 'pcrs'));
  for (const [name] of entries) if (!/^\d{1,2}$/.test(name) || Number(name) > PCR_MAX) throw malformed(`there is no PCR ${JSON.stringify(name.slice(0, 20))}`);
  return entries.map(([name, digest]) => [Number(name), asHex(digest, 32, `PCR ${name}`)] as const).toSorted(([a], [b]) => a - b);
}

function tagged(text: string, tag: string): Fields {
  const fields = asFields(parsed(text), 'it');
  if (fields['tenzro'] !== tag) throw malformed(`it does not say "tenzro": "${tag}"`);
  return fields;
}

function parsed(text: string): unknown {
  if (text.length > APPROVAL_BYTES_MAX) throw malformed(`it is larger than ${APPROVAL_BYTES_MAX} bytes`);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw malformed(messageOf(cause));
  }
}

function asFields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(`${what} is no object`);
  return value as Fields;
}

function asText(value: unknown, what: string): string {
  if (typeof value !== 'string' || value.length > TEXT_MAX) throw malformed(`${what} is no text of at most ${TEXT_MAX} characters`);
  return value;
}

function asHex(value: unknown, sizeBytes: number, what: string): Buffer {
  if (typeof value !== 'string' || value.length !== 2 * sizeBytes || !/^[0-9a-f]+$/.test(value)) throw malformed(`${what} is not ${2 * sizeBytes} hexadecimal digits`);
  return Buffer.from(value, 'hex');
}

const malformed = (why: string): TenzroError => new TenzroError('identity.approval', `not a request or approval: ${why}`);
