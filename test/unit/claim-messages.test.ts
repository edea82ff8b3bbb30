import assert from 'node:assert/strict';
import { openHandOver, openOrder, signHandOver, signOrder, encodeDeviceEvidence, decodeDeviceEvidence, type HandOver } from '#provisioning/claim/handOver.ts';
import { decodeMessage, encodeMessage, STANDINGS, type ClaimMessage } from '#provisioning/claim/messages.ts';
import { claimQuoteDigest, encodeQuote, openQuote } from '#provisioning/claim/quote.ts';
import { CLAIM_WORDS, sixWords } from '#provisioning/claim/words.ts';
import { TenzroError, type ErrorCode } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Cbor } from '#runtime/core/types.ts';
import { decodeCbor, encodeCbor } from '#runtime/crypto/cbor.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { signerOfSeed } from '#runtime/crypto/mldsa.ts';
import { randomOf } from '#test/support/random.ts';
import { AK, QUOTE, QUOTE_SIGNATURE } from '#test/support/tpmVectors.ts';

const refused = (work: () => unknown, code: ErrorCode, why: RegExp): void => assert.throws(work, (error: unknown) => error instanceof TenzroError && error.code === code && why.test(error.message));
const owners = [1, 2].map((byte) => signerOfSeed(Buffer.alloc(32, byte)));
const [first, second] = owners;

/** One message of each kind, of random contents. */
function messages(seed: number): ClaimMessage[] {
  const random = randomOf(seed);
  const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => random(256)));
  const some = (most: number): Buffer => bytes(1 + random(Math.min(most, 300)));
  const maybe = <T>(value: T): T | undefined => (random(2) === 0 ? undefined : value);
  return [
    { kind: 'hello', claimId: bytes(16), nonce: bytes(32) },
    { kind: 'offer', signingKey: bytes(1_952), request: maybe(some(49_152)), ephemeral: bytes(1_216), signature: bytes(3_309) },
    { kind: 'accept', offer: bytes(32), ciphertext: bytes(1_120), challenge: maybe(some(2_200)), confirmation: bytes(32) },
    { kind: 'proof', confirmation: bytes(32), sealed: some(16_384) },
    { kind: 'handOver', sealed: some(40_960) },
    { kind: 'standing', claimId: bytes(16), nonce: bytes(32), standing: STANDINGS[random(STANDINGS.length)] ?? 'none', reason: ['', 'claim.apply'][random(2)] ?? '', generation: random(9), signature: bytes(3_309) },
    { kind: 'ask', claimId: bytes(16), nonce: bytes(32) },
    { kind: 'order', body: some(4_000), signature: bytes(3_309) },
    { kind: 'refused', reason: 'claim.busy' },
  ];
}

describe('claim messages', () => {
  it('come back as they were, and each has one encoding', () => {
    for (let seed = 0; seed < 20; seed += 1) {
      for (const message of messages(seed)) {
        const bytes = encodeMessage(message);
        const decoded = decodeMessage(bytes);
        assert.deepEqual(encodeMessage(decoded), bytes, `${message.kind}, seed ${seed}`);
        assert.deepEqual(Object.entries(decoded).map(([name, value]) => [name, value instanceof Uint8Array ? Buffer.from(value) : value]), Object.entries(message));
      }
    }
  });

  it('are refused with any field missing, too many, too long, of another type, and with any byte cut off', () => {
    for (const message of messages(7)) {
      const bytes = encodeMessage(message);
      const fields = decodeCbor(bytes) as ReadonlyMap<number, Cbor>;
      const bent = (change: (map: Map<number, Cbor>) => void): Buffer => { const map = new Map(fields); change(map); return encodeCbor(map); };
      const optional = new Set(message.kind === 'offer' || message.kind === 'accept' ? [message.kind === 'offer' ? 4 : 5] : []);
      for (const key of fields.keys()) {
        if (!optional.has(key)) refused(() => decodeMessage(bent((map) => { map.delete(key); })), 'claim.malformed', /./);
        refused(() => decodeMessage(bent((map) => { map.set(key, new Map([[1, 1]])); })), 'claim.malformed', /./);
        refused(() => decodeMessage(bent((map) => { map.set(key, Buffer.alloc(LIMITS.claimMessageBytesMax - 6_000)); })), 'claim.malformed', /./);
      }
      refused(() => decodeMessage(bent((map) => { map.set(99, 0); })), 'claim.malformed', /unknown key 99/);
      refused(() => decodeMessage(bent((map) => { map.set(1, 2); })), 'claim.malformed', /not of version 1/);
      refused(() => decodeMessage(bytes.subarray(0, -1)), 'claim.malformed', /./);
      refused(() => decodeMessage(Buffer.concat([bytes, Buffer.alloc(1)])), 'claim.malformed', /./);
    }
    refused(() => decodeMessage(Buffer.alloc(LIMITS.claimMessageBytesMax + 1)), 'claim.malformed', /more than/);
    refused(() => decodeMessage(encodeMessage({ kind: 'refused', reason: '\u001b[2J' })), 'claim.malformed', /reason/);
  });

  const handOver = (change: Partial<HandOver> = {}): HandOver => {
    assert.ok(first && second);
    return {
      claimId: Buffer.alloc(16, 1), transcript: Buffer.alloc(32, 2), networks: [{ ssid: Buffer.from('Werkstatt ⚙'), passphrase: 'eight or more' }, { ssid: Buffer.from('guest'), passphrase: '' }],
      broker: 'mqtts://fleet.example:8883', fleetCa: Buffer.from('der'), ownerKeys: [first.publicKey, second.publicKey], time: 1_795_392_000, statement: undefined, receiptKey: Buffer.alloc(32, 7), certificates: [], login: undefined, ...change,
    };
  };

  it('carry a hand-over that its first owner key signed, with two keys that are two', () => {
    assert.ok(first && second);
    const opened = openHandOver(signHandOver(handOver(), first));
    assert.deepEqual(opened.networks.map(({ ssid, passphrase }) => [Buffer.from(ssid).toString(), passphrase]), [['Werkstatt ⚙', 'eight or more'], ['guest', '']]);
    refused(() => openHandOver(signHandOver(handOver(), second)), 'claim.hand_over', /not signed by its first owner key/);
    refused(() => openHandOver(signHandOver(handOver({ ownerKeys: [first.publicKey, first.publicKey] }), first)), 'claim.hand_over', /not two/);
    refused(() => openHandOver(signHandOver(handOver({ ownerKeys: [first.publicKey] }), first)), 'claim.malformed', /ownerKeys is not a list of 2 to 2/);
    for (const passphrase of ['seven77', 'x'.repeat(64), 'umläut und mehr', 'line\nbreak']) refused(() => openHandOver(signHandOver(handOver({ networks: [{ ssid: Buffer.from('x'), passphrase }] }), first)), 'claim.malformed', /passphrase/);
    for (const broker of ['mqtt://plain', 'mqtts://a b', 'https://x']) refused(() => openHandOver(signHandOver(handOver({ broker }), first)), 'claim.malformed', /broker/);
    refused(() => openHandOver(encodeMessage({ kind: 'handOver', sealed: Buffer.alloc(9) })), 'claim.malformed', /not of type/);
  });

  it('carry orders that one of the owner keys signed', () => {
    assert.ok(first && second);
    const body = { verb: 'release', claimId: Buffer.alloc(16), device: Buffer.alloc(32), generation: 3, ownerKeys: undefined } as const;
    const keys = owners.map(({ publicKey }) => publicKey);
    assert.equal(openOrder(signOrder(body, second), keys).generation, 3);
    refused(() => openOrder(signOrder(body, signerOfSeed(Buffer.alloc(32, 3))), keys), 'claim.order', /neither/);
    refused(() => openOrder(signOrder({ ...body, verb: 'rotate' }, first), keys), 'claim.order', /keys belong to a rotation/);
    refused(() => openOrder(signOrder({ ...body, ownerKeys: keys }, first), keys), 'claim.order', /keys belong to a rotation/);
  });

  it('carry evidence, and a quote that only counts for its claim', () => {
    const quote = encodeQuote({ attest: QUOTE, signature: QUOTE_SIGNATURE, pcrs: [[14, sha256(QUOTE)]] });
    const evidence = encodeDeviceEvidence({ answer: Buffer.alloc(100, 1), quote });
    assert.deepEqual(Buffer.from(decodeDeviceEvidence(evidence).quote ?? assert.fail()), quote);
    refused(() => openQuote(quote, AK, Buffer.alloc(32)), 'claim.evidence', /./);
    assert.notDeepEqual(claimQuoteDigest(Buffer.alloc(32, 1)), claimQuoteDigest(Buffer.alloc(32, 2)));
  });

  it('end in six words of ten bits each, no two of which are one letter apart', () => {
    assert.deepEqual([CLAIM_WORDS.length, new Set(CLAIM_WORDS).size], [1_024, 1_024]);
    assert.ok(CLAIM_WORDS.every((word) => /^[a-z]{4,8}$/.test(word)));
    const blanked = CLAIM_WORDS.flatMap((word) => Array.from(word, (_, at) => `${word.slice(0, at)}?${word.slice(at + 1)}`));
    assert.equal(new Set(blanked).size, blanked.length, 'two words differ in one letter');
    const [zero, last] = [CLAIM_WORDS.at(0), CLAIM_WORDS.at(-1)];
    assert.equal(sixWords(Buffer.alloc(32)), Array.from({ length: 6 }, () => zero).join(' '));
    assert.equal(sixWords(Buffer.alloc(32, 0xff)), Array.from({ length: 6 }, () => last).join(' '));
    assert.equal(sixWords(Buffer.from('00400000000000000000', 'hex')).split(' ')[0], CLAIM_WORDS[1]);
  });
});
