import assert from 'node:assert/strict';
import { COMMAND } from '#drivers/tpm2/constants.ts';
import { decodeResponseCode, RC, RC_FORMAT_1, TpmRefusal } from '#drivers/tpm2/errors.ts';
import { decodeResponse, encodeCommand, responseSize } from '#drivers/tpm2/codec.ts';

describe('tpm2: response codes', () => {
  // As `tpm2_rc_decode` reads them.
  for (const [code, name, subject] of [
    [0x100, 'initialize', ''], [0x101, 'failure', ''], [0x922, 'retry', ''], [0x14c, 'nvDefined', ''],
    [0x18b, 'handle', 'handle 1'], [0x28b, 'handle', 'handle 2'], [0x98e, 'authFail', 'session 1'], [0x1c4, 'value', 'parameter 1'], [0x2d5, 'size', 'parameter 2'],
    [0x9a2, 'badAuth', 'session 1'], [0x084, 'value', ''], [0x5ff, 'unknown', 'parameter 5'],
  ] as const) {
    it(`0x${code.toString(16)} is ${name}${subject && ` of ${subject}`}`, () => {
      const decoded = decodeResponseCode(code);
      assert.deepEqual([decoded.name, decoded.subject], [name, subject]);
    });
  }

  it('knows every code of the tables, and what to do about it', () => {
    const unadvised = new Set<number>([RC.success, RC.private, RC.hmac, RC.yielded, RC.testing, RC.retry]); // not used, or sent again by the driver
    const references = Array.from({ length: 7 }, (_, at) => [RC.referenceH0 + at, RC.referenceS0 + at]).flat();
    for (const code of [...Object.values(RC), ...Object.values(RC_FORMAT_1), ...references]) {
      assert.notEqual(decodeResponseCode(code).name, 'unknown');
      if (!unadvised.has(code)) assert.match(new TpmRefusal(COMMAND.quote, code).message, /code 0x[0-9a-f]+: \w/);
    }
    assert.equal(decodeResponseCode(0x912).name, 'referenceH2');
    assert.equal(decodeResponseCode(0x91e).name, 'referenceS6');
  });

  it('names command, subject and code, and says what to do where that is not evident', () => {
    const refusal = new TpmRefusal(COMMAND.nvDefineSpace, 0x9a2);
    assert.equal(refusal.base, RC_FORMAT_1.badAuth);
    assert.match(refusal.message, /^TPM2 nvDefineSpace: badAuth \(session 1\), code 0x9a2: the authValue is wrong/);
  });
});

describe('tpm2: frames', () => {
  it('refuses a command beyond the TPM buffer before it is sent', () => {
    assert.throws(() => encodeCommand({ code: COMMAND.getRandom, handles: [], authorization: Buffer.alloc(0), parameters: Buffer.alloc(4_096) }), { code: 'core.invariant' });
  });

  it('bounds what a header may announce', () => {
    const header = (size: number): Buffer => { const bytes = Buffer.alloc(10); bytes.writeUInt32BE(size, 2); return bytes; };
    assert.equal(responseSize(header(10).subarray(0, 9)), undefined);
    assert.equal(responseSize(header(4_096)), 4_096);
    for (const size of [0, 9, 4_097, 0xffffffff]) assert.throws(() => responseSize(header(size)), { code: 'tpm.response' });
  });

  it('checks tag, size and what an error may carry', () => {
    const plain = { handle: false, sessions: false };
    const response = (text: string): Buffer => Buffer.from(text, 'hex');
    assert.equal(decodeResponse(response('80010000000a00000922'), plain).code, 0x922);
    for (const [text, expect] of [
      ['80020000000a00000000', plain], // sessions where none were sent
      ['80010000000b00000000', plain], // size
      ['80010000000b0000092200', plain], // an error with parameters
      ['80010000000a00000000', { handle: true, sessions: false }], // no handle
      ['80020000000e000000000000ffff', { handle: false, sessions: true }], // parameters longer than the response
    ] as const) assert.throws(() => decodeResponse(response(text), expect), { code: 'tpm.response' });
  });
});
