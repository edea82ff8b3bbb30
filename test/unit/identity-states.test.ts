import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { bootPolicy } from '#drivers/tpm2/bootPolicy.ts';
import { approve, formatApproval, formatRequest, isValid, parseApproval, parsePcrs, parseRequest, type ApprovalRequest } from '#provisioning/identity/approval.ts';
import { authorityOfPem, authorityOfScalar, authorityPoint, isAuthoritysWord, newAuthorityScalar, signAsAuthority } from '#provisioning/identity/authority.ts';
import { judge } from '#provisioning/identity/judge.ts';
import { keepOutOfDumps } from '#provisioning/identity/memory.ts';
import { decodeSecrets, encodeSecrets, eraseSecrets, hierarchyAuthOf, newSecrets } from '#provisioning/identity/secrets.ts';
import { step, type Effect, type IdentityState, type Input } from '#provisioning/identity/states.ts';

const STATES: readonly IdentityState[] = [
  ...(['idle', 'looking', 'creating', 'opening', 'identifying', 'comparing', 'unsealing'] as const).map((at) => ({ at })),
  { at: 'open', protection: 'tpm' }, { at: 'locked', code: 'identity.io', detail: 'd' },
];
const INPUTS: readonly Input[] = [
  { saw: 'wanted' }, { saw: 'approval' }, { saw: 'keys', protection: 'tpm' }, { saw: 'refused', code: 'identity.damaged', detail: 'd' },
  ...(['nothing', 'legacy', 'file', 'tpm'] as const).flatMap((found) => [true, false].map((chainHasBegun) => ({ saw: 'files', found, chainHasBegun }) as const)),
  ...(['ours', 'cleared', 'foreign', 'missing'] as const).map((is) => ({ saw: 'tpm', is, detail: 'd' }) as const),
];
/** What answers an effect. */
const ANSWERS: Readonly<Record<Exclude<Effect, 'rest'>, Input['saw']>> = { look: 'files', create: 'keys', migrate: 'keys', openFile: 'keys', identify: 'tpm', compare: 'approval', unseal: 'keys' };

describe('identity: states', () => {
  it('awaits, in every state, exactly what its effect can bring, and comes to rest whatever that is', () => {
    const tried = (state: IdentityState, input: Input): ReturnType<typeof step> | undefined => {
      try {
        return step(state, input);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'core.invariant');
        return undefined;
      }
    };
    const walk = (state: IdentityState, effect: Effect, depth: number): void => {
      assert.ok(depth < 8, 'it comes to rest');
      if (effect === 'rest') { assert.ok(state.at === 'open' || state.at === 'locked'); return; }
      for (const input of INPUTS) {
        const next = tried(state, input);
        assert.equal(next !== undefined, input.saw === ANSWERS[effect] || input.saw === 'refused', `${state.at}: ${input.saw}`);
        if (next) walk(next.state, next.effect, depth + 1);
      }
    };
    for (const state of STATES) {
      const next = tried(state, { saw: 'wanted' });
      assert.equal(next !== undefined, ['idle', 'open', 'locked'].includes(state.at), state.at);
      if (next) walk(next.state, next.effect, 0);
    }
  });

  it('makes keys only where there are none and no chain', () => {
    for (const input of INPUTS) {
      if (input.saw !== 'files') continue;
      assert.equal(step({ at: 'looking' }, input).effect === 'create', input.found === 'nothing' && !input.chainHasBegun);
    }
  });
});

describe('identity: judgement of approvals', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const digest = (n: number): Buffer => Buffer.alloc(32, n);
  const policy = { authority: authorityPoint(privateKey), policyRef: digest(9) };
  const wanted = (pcr7: number, revocation = 3n): ApprovalRequest => ({ node: 'n', policy, state: { pcrs: [[0, digest(0)], [7, digest(pcr7)]], revocation } });
  const approved = (pcr7: number, revocation = 3n): ReturnType<typeof approve> => approve(wanted(pcr7, revocation), `image ${pcr7}`, privateKey, bootPolicy);

  it('takes the approval that fits, of several', () => {
    const verdict = judge([approved(1), approved(2)], 3n, wanted(2).state);
    assert.ok(verdict.kind === 'fits' && verdict.approval.note === 'image 2');
  });

  it('says why none fits', () => {
    const code = (...args: Parameters<typeof judge>): string => { const verdict = judge(...args); return verdict.kind === 'fits' ? 'fits' : verdict.code; };
    assert.equal(code([], 3n, wanted(1).state), 'identity.unapproved');
    assert.equal(code([approved(1, 4n)], 3n, wanted(1).state), 'identity.unapproved');
    assert.equal(code([approved(1)], 3n, wanted(2).state), 'identity.boot_changed');
    assert.equal(code([approved(1), approved(1, 4n)], 3n, wanted(1, 4n).state), 'identity.revoked');
    assert.equal(code([approved(1)], 3n, wanted(1, 2n).state), 'identity.tpm_foreign');
    assert.equal(code([approved(1)], 3n, { pcrs: [], revocation: 3n }), 'identity.boot_changed');
  });

  it('round-trips as JSON, and any altered value loses the signature', () => {
    assert.deepEqual(parseRequest(formatRequest(wanted(1))), wanted(1));
    const approval = approved(1);
    assert.deepEqual(parseApproval(formatApproval(approval)), approval);
    assert.ok(isValid(approval, policy, bootPolicy));
    for (const altered of [{ ...approval, state: wanted(2).state }, { ...approval, state: wanted(1, 4n).state }, { ...approval, policy: { ...policy, policyRef: digest(8) } }, { ...approval, signature: Buffer.alloc(64) }]) assert.ok(!isValid(altered, policy, bootPolicy));
  });

  it('refuses what is no approval', () => {
    const good = JSON.parse(formatApproval(approved(1))) as Record<string, unknown>;
    const bad = ['', '{', '[]', 'null', '0', '{"tenzro":"x"}', 'x'.repeat(70_000), '['.repeat(60_000), ...[
      { pcrs: { 24: '00'.repeat(32) } }, { pcrs: { '-1': '' } }, { pcrs: [] }, { pcrs: { 7: '00' } }, { revocation: 3 }, { revocation: '18446744073709551616' }, { revocation: '-1' }, { signature: 'zz'.repeat(64) }, { note: 'x'.repeat(201) }, { authority: '' },
    ].map((change) => JSON.stringify({ ...good, ...change }))];
    for (const text of bad) assert.throws(() => parseApproval(text), { code: 'identity.approval' }, text.slice(0, 80));
    assert.throws(() => parsePcrs('{"7": 1}'), { code: 'identity.approval' });
  });
});

describe('identity: secrets', () => {
  it('round-trip, are erased, and refuse other bytes without showing them', () => {
    const secrets = newSecrets({ hasOwnAuthority: true });
    const bytes = encodeSecrets(secrets);
    assert.deepEqual(decodeSecrets(bytes), secrets);
    for (let at = 0; at < bytes.length; at += 1) {
      try {
        decodeSecrets(bytes.subarray(0, at));
        assert.fail(`${at} bytes`);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'identity.damaged');
        assert.ok(!(error as Error).message.includes(secrets.signingSeed.toString('hex')));
      }
    }
    eraseSecrets(secrets);
    for (const secret of Object.values(secrets) as Buffer[]) assert.deepEqual(secret, Buffer.alloc(secret.length));
  });

  it('derive a different authorisation for each hierarchy, none of which ends in a zero', () => {
    const { owner, endorsement, lockout } = hierarchyAuthOf(Buffer.alloc(32, 1));
    assert.equal(new Set([owner, endorsement, lockout].map((auth) => Buffer.from(auth).toString('hex'))).size, 3);
    for (let n = 0; n < 600; n += 1) for (const auth of Object.values(hierarchyAuthOf(Buffer.alloc(32, n))) as Buffer[]) assert.notEqual(auth[31], 0);
  });

  it('sign as P-256 authority, and refuse other keys', () => {
    const key = authorityOfScalar(newAuthorityScalar());
    const message = Buffer.from('approved');
    assert.ok(isAuthoritysWord(authorityPoint(key), message, signAsAuthority(key, message)));
    assert.ok(!isAuthoritysWord(Buffer.alloc(64, 1), message, Buffer.alloc(64)));
    assert.throws(() => authorityOfScalar(Buffer.alloc(32)), { code: 'identity.authority' });
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'pem', type: 'pkcs8' });
    assert.throws(() => authorityOfPem(rsa.toString(), 'private'), { code: 'identity.authority' });
    assert.throws(() => authorityOfPem('no key', 'public'), { code: 'identity.authority' });
  });

  it('stay out of core dumps', () => {
    assert.equal(keepOutOfDumps().kind, 'value');
    assert.equal(Number.parseInt(readFileSync('/proc/self/coredump_filter', 'utf8'), 16) & 0b1100011, 0);
  });
});
