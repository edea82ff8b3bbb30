/** Attacks on the port at which a gateway takes claims: what somebody on the local network can do who does not know the code, and who does. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { decodeClaimCode, type ClaimCode } from '#provisioning/claim/code.ts';
import { frame, FrameReader } from '#provisioning/claim/lan/framing.ts';
import { ClaimListener } from '#provisioning/claim/lan/listener.ts';
import { decodeMessage, encodeMessage } from '#provisioning/claim/messages.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { sha256 } from '#runtime/crypto/hash.ts';
import { DeskClock } from '#test/support/claimDesk.ts';
import { Operator } from '#test/support/claimOperator.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { randomOf } from '#test/support/random.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const HELLO = encodeMessage({ kind: 'hello', claimId: Buffer.alloc(16, 1), nonce: Buffer.alloc(32, 2) });
const ANSWER = encodeMessage({ kind: 'refused', reason: 'claim.secret_none' });

describe('attacks on the port for claims', function () {
  this.timeout(40_000);

  describe('by who does not know the code', () => {
    let clock: DeskClock;
    let listener: ClaimListener;
    let heard: number;
    let isHeld: boolean;
    const notes: string[] = [];
    const sockets: Socket[] = [];

    beforeEach(async () => {
      clock = new DeskClock();
      [heard, isHeld] = [0, false];
      notes.length = 0;
      listener = await ClaimListener.open('127.0.0.1', 0, {
        clock, isHeld: () => isHeld, gone: () => undefined, note: (code) => notes.push(code),
        receive: () => {
          heard += 1;
          listener.send(ANSWER);
          return true;
        },
      });
    });
    afterEach(async () => {
      for (const socket of sockets.splice(0)) socket.destroy();
      await listener[Symbol.asyncDispose]();
    });

    async function dial(localAddress = '127.0.0.1'): Promise<Socket> {
      const socket = connect({ host: '127.0.0.1', port: listener.port, localAddress });
      sockets.push(socket);
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      return socket;
    }
    /** Resolves with the reasons that were answered, when that many were. */
    async function answers(socket: Socket, count: number): Promise<readonly string[]> {
      const reader = new FrameReader();
      const reasons: string[] = [];
      for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        for (const message of reader.push(chunk).map(decodeMessage)) reasons.push(message.kind === 'refused' ? message.reason : message.kind);
        if (reasons.length >= count) break;
      }
      return reasons;
    }
    const closing = (socket: Socket): Promise<void> => new Promise((resolve) => { socket.resume().once('close', () => { resolve(); }); });
    const isServed = async (socket: Socket): Promise<void> => {
      socket.write(frame(HELLO));
      assert.deepEqual(await answers(socket, 1), ['claim.secret_none']);
    };

    it('a slow loris that sends byte by byte loses its connection, and holds up nobody meanwhile', async () => {
      const slow = await dial('127.0.0.2');
      const closed = closing(slow);
      slow.write(frame(HELLO).subarray(0, 9));
      await isServed(await dial());
      for (let seconds = 0; seconds <= LIMITS.claimIdleMs / 1_000 && !slow.destroyed; seconds++) {
        clock.pass(1_000);
        listener.tick();
        slow.write(Buffer.from([0]));
      }
      await closed;
      assert.ok(notes.includes('claim.timeout'));
    });

    it('who opens connection after connection gives way to himself, not others to him', async () => {
      const honest = await dial();
      for (let count = 0; count < 3 * LIMITS.claimConnectionsMax; count++) await dial('127.0.0.2');
      await isServed(honest);
      await isServed(await dial('127.0.0.3'));
    });

    it('who has confirmed the secret keeps its connection, however many come and however long the operator looks', async () => {
      const operator = await dial();
      await isServed(operator);
      isHeld = true;
      for (let count = 0; count < 2 * LIMITS.claimConnectionsMax; count++) await dial('127.0.0.2');
      clock.pass(LIMITS.claimJudgeMs);
      listener.tick();
      listener.send(ANSWER);
      assert.deepEqual(await answers(operator, 1), ['claim.secret_none']);
    });

    it('a flood of hellos costs a bounded number of signatures, and the flooder his turn', async () => {
      const flooder = await dial('127.0.0.2');
      for (let count = 0; count < 10 * LIMITS.claimBurst; count++) flooder.write(frame(HELLO));
      assert.equal((await answers(flooder, LIMITS.claimBurst + 1)).at(-1), 'claim.busy');
      assert.equal(heard, LIMITS.claimBurst);
      await isServed(await dial());
      for (let host = 3; host < 40; host++) {
        const other = await dial(`127.0.0.${host}`);
        for (let count = 0; count <= LIMITS.claimBurst; count++) other.write(frame(HELLO));
        await closing(other);
      }
      assert.equal(heard, LIMITS.claimTotalBurst, 'all addresses together');
    });

    it('frames that are too long or garbage end their connection and nothing else', async () => {
      const random = randomOf(9);
      for (let count = 0; count < 10; count++) {
        const socket = await dial('127.0.0.2');
        socket.write(Buffer.concat([Buffer.from([0xff, 0xff]), Buffer.from(Array.from({ length: random(4_000) }, () => random(256)))]));
        await closing(socket);
      }
      assert.deepEqual(new Set(notes), new Set(['claim.malformed']));
      assert.equal(heard, 0);
      await isServed(await dial());
    });
  });

  describe('on a running gateway', () => {
    let dir: TempDir;
    let tpm: TemporaryTpm;
    let gateway: Gateway;
    let code: ClaimCode;
    const dataDir = (): string => join(dir.path, 'data');
    const configFile = (): string => join(dir.path, 'tenzro.yaml');
    const start = async (): Promise<void> => { gateway = await Gateway.start({ dataDir: dataDir(), configFile: configFile() }); };
    const port = async (): Promise<number> => (await gateway.until('claims to be taken', ({ claim }) => claim.port !== null, 20_000)).claim.port ?? 0;
    const wrong = (): ClaimCode => ({ ...code, secret: sha256(code.secret).subarray(0, code.secret.length) });
    const outcome = async (operator: Operator, with_: ClaimCode): Promise<string> => {
      const ended = await operator.claim(with_, await port());
      return ended.kind === 'failed' ? ended.code : ended.kind;
    };

    beforeEach(async function () {
      tpm = await temporaryTpm(this);
      dir = tempDir('attack-claim');
      writeFileSync(configFile(), `attest: { intervalMs: 1000, tpm: { mode: socket, path: '${tpm.address}' } }\nclaim: { host: 127.0.0.1 }\nsystem: { enabled: false }\ninfer: { enabled: false }\n`);
      await start();
      await gateway.until('its first block', ({ chain, claim }) => chain.blocks > 0 && claim.state === 'unclaimed', 20_000);
      const { stdout, output } = await tenzro(dataDir(), ['claim', 'show', '--json', '--printed'], { configFile: configFile() });
      assert.notEqual(stdout, '', output);
      code = decodeClaimCode((JSON.parse(stdout) as { readonly code: string }).code);
    });
    afterEach(async () => {
      await gateway[Symbol.asyncDispose]();
      await tpm[Symbol.asyncDispose]();
      dir[Symbol.dispose]();
    });

    const recorded = async (codes: readonly string[]): Promise<void> => {
      await until(`the chain to hold ${codes.join(', ')}`, async () => (await logLines(dataDir(), ['--kind', 'claim'])).map(({ body }) => (body as { readonly code?: string }).code ?? '').join() === codes.join(), { intervalMs: 200 });
    };

    it('guessing the secret ends after five attempts, also over kills of the gateway, and is in the chain', async () => {
      using mallory = new Operator();
      for (const attempt of [1, 2, 3, 4]) {
        assert.equal(await outcome(mallory, wrong()), 'claim.secret_wrong');
        if (attempt !== 2) continue;
        await recorded(['claim.secret_wrong', 'claim.secret_wrong']);
        await gateway.kill();
        await start();
      }
      assert.equal(await outcome(mallory, wrong()), 'claim.locked');
      await recorded([...Array.from({ length: 4 }, () => 'claim.secret_wrong'), 'claim.locked']);
      await gateway.kill();
      await start();
      using anna = new Operator();
      assert.equal(await outcome(anna, code), 'claim.locked', 'the right secret, too late');
      assert.equal((await gateway.status())?.claim.state, 'locked');
      const { output } = await tenzro(dataDir(), ['claim', 'show'], { configFile: configFile() });
      assert.match(output, /claim\.locked/);
    });

    it('a second claimer with a photographed code gets nothing while the first is looking, and nothing after', async () => {
      using anna = new Operator();
      using mallory = new Operator();
      const outcomes: string[] = [];
      anna.look = async () => { outcomes.push(await outcome(mallory, code)); };
      outcomes.push(await outcome(anna, code), await outcome(mallory, code));
      assert.deepEqual(outcomes, ['claim.busy', 'owned', 'claim.claimed']);
      await until('both refusals to be in the chain', async () => (await logLines(dataDir(), ['--kind', 'claim'])).map(({ body }) => (body as { readonly code?: string }).code ?? '').toSorted().join() === ',claim.busy,claim.claimed', { intervalMs: 200 });
      const { counters } = await gateway.status() ?? assert.fail();
      assert.deepEqual([counters['claim.refused.claim.busy'], counters['claim.refused.claim.claimed']], [1, 1]);
    });

    it('a hand-over that enrols another gateway, or certifies another key, is not obeyed', async () => {
      using anna = new Operator();
      anna.wishes = { fleetCa: Buffer.from('no certificate') };
      assert.equal(await outcome(anna, code), 'claim.hand_over');
      anna.wishes = { certificates: [anna.fleetCa] };
      assert.equal(await outcome(anna, code), 'claim.hand_over');
      anna.wishes = { statement: undefined };
      assert.equal(await outcome(anna, code), 'claim.hand_over');
      anna.wishes = { networks: [{ ssid: Buffer.from('hall'), passphrase: 'correct horse' }] };
      assert.equal(await outcome(anna, code), 'claim.apply', 'no Wi-Fi here');
      anna.wishes = {};
      assert.equal(await outcome(anna, code), 'owned');
    });
  });
});
