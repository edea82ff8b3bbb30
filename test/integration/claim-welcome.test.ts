/** The other direction over TCP: the gateway scanned the operator's code and dials out, through the relay beside it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ClaimRecord } from '#provisioning/claim/claimer.ts';
import { attemptClaim, type ClaimOutcome } from '#provisioning/claim/converse.ts';
import type { ClaimDevice } from '#provisioning/claim/deviceRun.ts';
import { relay } from '#provisioning/claim/lan/relay.ts';
import { Welcome } from '#provisioning/claim/lan/welcome.ts';
import { claimerSuite } from '#provisioning/claim/realSuite.ts';
import { systemClock } from '#runtime/core/clock.ts';
import { ClaimableGateway, Desk, DeskClock } from '#test/support/claimDesk.ts';
import { serveGateway, type Listener } from '#test/support/claimWire.ts';
import { temporaryTpm, type TemporaryTpm } from '#test/support/swtpm.ts';

const NEVER = new AbortController().signal;
const PLACE = '127.0.0.1';

describe('claim, the gateway dials', function () {
  this.timeout(20_000);
  let tpm: TemporaryTpm;
  let gateway: ClaimableGateway;
  let device: ClaimDevice;
  let listener: Listener;
  let secret: Buffer;

  before(async function () { tpm = await temporaryTpm(this); });
  after(async () => { await tpm[Symbol.asyncDispose](); });
  beforeEach(async () => {
    secret = randomBytes(16);
    gateway = await ClaimableGateway.on(tpm.address, new DeskClock());
    device = await gateway.start([{ secret, lifetimeMs: 600_000 }]);
    listener = await serveGateway(gateway, () => device);
  });
  afterEach(async () => {
    device[Symbol.dispose]();
    await listener[Symbol.asyncDispose]();
    await gateway[Symbol.asyncDispose]();
  });

  /** The operator waits with that secret, the gateway's relay dials. */
  async function meet(shown: Buffer, records: ClaimRecord[] = []): Promise<string> {
    const desk = new Desk('Anna', gateway.clock);
    const { promise, resolve, reject } = Promise.withResolvers<ClaimOutcome>();
    await using welcome = await Welcome.open(PLACE, 0, (dial) => {
      attemptClaim({ secret: shown }, { suite: claimerSuite, clock: systemClock, dial, ...desk.ports, write: async (record) => { records.push(record); }, note: () => undefined }, NEVER).then(resolve, reject);
    });
    const carried = relay({ host: PLACE, port: listener.port }, [{ host: PLACE, port: 1 }, { host: PLACE, port: welcome.port }], NEVER);
    const outcome = await promise;
    await carried;
    return outcome.kind === 'failed' ? outcome.code : outcome.kind;
  }

  it('ends with an owner and the same six words, the first place being out of reach', async () => {
    const records: ClaimRecord[] = [];
    assert.equal(await meet(secret, records), 'owned');
    assert.equal(records.at(-1)?.words, gateway.words);
    assert.equal(gateway.record.burnt.length, 1);
    assert.equal(await meet(secret), 'claim.claimed', 'a code works once');
  });

  it('an operator who shows another secret gets nothing, and it counts', async () => {
    assert.equal(await meet(randomBytes(16)), 'claim.secret_wrong');
    assert.equal(gateway.record.failures.count, 1);
  });

  it('where no operator answers it says so', async () => {
    await assert.rejects(relay({ host: PLACE, port: listener.port }, [{ host: PLACE, port: 1 }], NEVER), { code: 'claim.link' });
  });
});
