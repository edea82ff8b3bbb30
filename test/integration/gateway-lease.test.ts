import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { join } from 'node:path';
import { parseDocumentText } from '#runtime/config/document.ts';
import type { Check } from '#runtime/verify/checks.ts';
import { Gateway, logLines, tenzro } from '#test/support/gateway.ts';
import { connectClient } from '#test/support/mqttClient.ts';
import { requirePeer } from '#test/support/peers.ts';
import { freePort, Program } from '#test/support/process.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';
import { until } from '#test/support/until.ts';

const COMMAND = join(import.meta.dirname, '..', '..', 'runtime', 'cli', 'tenzro.js');
const LEASE_SECONDS = 4;

describe('a gateway and its verifier', function () {
  this.timeout(90_000);
  let dir: TempDir;
  let port: number;
  let key: string;
  const at = (name: string): string => join(dir.path, name);
  const dataDir = (): string => at('data');

  const writePolicy = (accept: string): void => { writeFileSync(at('verifier/policy.yaml'), `version: 1\naccept: [${accept}]\nenrol: firstUse\nenrollers: ["${key}"]\nleaseSeconds: ${LEASE_SECONDS}\n`); };

  async function serve(): Promise<Program> {
    const verifier = new Program(process.execPath, [COMMAND, 'verifier', 'serve', '--dir', at('verifier'), '--listen', `127.0.0.1:${port}`]);
    await until('the verifier to be ready', () => verifier.stdout.includes('verifier ready on'), { timeoutMs: 20_000, hopeless: () => (verifier.running ? undefined : verifier.output) });
    assert.equal(readFileSync(`/proc/${verifier.pid}/coredump_filter`, 'latin1').trim(), '00000010', 'its keys are in no core dump');
    return verifier;
  }

  before(async function () {
    requirePeer(this, 'swtpm');
    dir = tempDir('lease');
    port = await freePort();
    const made = await tenzro(dataDir(), ['verifier', 'init', '--dir', at('verifier'), '--host', 'localhost', '--name', 'the verifier', '--json']);
    assert.equal(made.code, 0, made.output);
    key = (JSON.parse(made.stdout) as { readonly key: string }).key;
    writePolicy('enrolled');
    writeFileSync(at('gateway.yaml'), `version: 1\nsystem: { intervalMs: 500 }\nattest: { intervalMs: 1000, idleIntervalMs: 2000, tpm: { mode: emulated } }\nverifier: { url: "https://localhost:${port}", caFile: ${at('verifier/tls.pem')}, key: "${key}" }\n`);
    writeFileSync(at('auditor.yaml'), `version: 1\naccept: [enrolled]\nenrollers: ["${key}"]\nlease: required\nverifiers: ["${key}"]\n`);
  });
  after(() => { dir[Symbol.dispose](); });

  interface PolicyStatus { readonly digest: string; readonly fault: string | null }
  async function policyStatus(): Promise<PolicyStatus> {
    const outgoing = get(`https://localhost:${port}/v1/status`, { agent: false, ca: readFileSync(at('verifier/tls.pem')) });
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    let text = '';
    for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) text += chunk;
    return (JSON.parse(text) as { readonly policy: PolicyStatus }).policy;
  }

  async function leaseCheck(index: number): Promise<{ readonly outcome: string; readonly check: Check | undefined }> {
    const proof = await tenzro(dataDir(), ['proof', String(index), '-o', at('proof.tzp'), '--wait']);
    assert.equal(proof.code, 0, proof.output);
    const { stdout } = await tenzro(dataDir(), ['verify', at('proof.tzp'), '--policy', at('auditor.yaml'), '--json']);
    const { outcome, checks } = JSON.parse(stdout) as { readonly outcome: string; readonly checks: readonly Check[] };
    return { outcome, check: checks.find(({ code }) => code === 'lease') };
  }

  it('enrols with its TPM, gets a lease that its proofs carry, lapses without the verifier, and is refused when the policy changes', async () => {
    await using stack = new AsyncDisposableStack();
    let verifier = stack.use(await serve());
    await using gateway = await Gateway.start({ dataDir: dataDir(), configFile: at('gateway.yaml') });
    const held = await gateway.until('a lease', ({ lease }) => lease?.lease === 'held', 30_000);
    assert.deepEqual([held.lease?.level, held.lease?.enrolled, held.lease?.keyExchange], ['enrolled', true, 'X25519MLKEM768']);
    const [enrolment] = await logLines(dataDir(), ['--kind', 'enrolment']);
    const [lease] = await logLines(dataDir(), ['--kind', 'lease', '--limit', '1']);
    assert.ok(enrolment && lease);

    // An entry after the lease: the block over it names the lease, and a stranger who pins the verifier's key believes it.
    const later = await until('a later entry', async () => (await logLines(dataDir(), ['--limit', '1'])).find(({ index, kind }) => index > lease.index && kind !== 'lease'), { timeoutMs: 30_000 });
    const proved = await leaseCheck(later.index);
    assert.deepEqual([proved.outcome, proved.check?.result], ['verified', 'pass'], JSON.stringify(proved));
    assert.match(proved.check?.detail ?? '', /^'the verifier' appraised block \d+ as 'enrolled'/);

    // Nobody is told anything else on the local broker.
    await using client = await connectClient(await gateway.port());
    await client.mqtt.subscribeAsync('te/device/main///twin/trust');
    const [told] = await client.arrived(1);
    const message = JSON.parse(told?.payload ?? '{}') as { readonly level?: string; readonly lease?: string };
    assert.deepEqual([told?.retain, message.level], [true, 'enrolled']);

    // kill −9: the verifier remembers, and renewals go on.
    await verifier.end('SIGKILL');
    verifier = stack.use(await serve());
    const before = (await gateway.status())?.counters['lease.granted'] ?? 0;
    await gateway.until('a lease of the verifier that was killed', ({ counters }) => (counters['lease.granted'] ?? 0) > before, 20_000);
    assert.equal((await logLines(dataDir(), ['--kind', 'enrolment'])).length, 1);

    // The policy file changes: refused, with the reason, in status, entry and block.
    writePolicy('dtpm');
    const refused = await gateway.until('a refusal', ({ lease: standing }) => standing?.lease === 'refused', 20_000);
    assert.match(refused.lease?.reason ?? '', /trust\.policy: the trust level is 'enrolled'/);
    const entry = await until('the entry that says so', async () => (await logLines(dataDir(), ['--kind', 'lease', '--limit', '1'])).find(({ body }) => (body as { readonly state?: string }).state === 'refused'));
    const without = await leaseCheck(entry.index);
    assert.deepEqual([without.outcome, without.check?.result], ['refuted', 'fail']);
    assert.match(without.check?.detail ?? '', /the head says that it has no lease: refused: trust\.policy/);
    const heard = await client.arrived(client.received.length);
    assert.ok(heard.some(({ payload }) => payload.includes('"lease":"refused"')));

    // Without a verifier the lease runs out.
    writePolicy('enrolled');
    await gateway.until('a lease again', ({ lease: standing }) => standing?.lease === 'held', 40_000);
    await verifier.end('SIGTERM');
    const lapsed = await gateway.until('the lease to lapse', ({ lease: standing }) => standing?.lease === 'lapsed', (LEASE_SECONDS + 10) * 1_000);
    assert.match(lapsed.lease?.reason ?? '', /lease\.unreachable/);
    assert.equal(lapsed.ready, true, 'it records on');
  });

  it('explains its policy in a dry run that issues nothing', async () => {
    const run = await tenzro(dataDir(), ['verifier', 'appraise', at('proof.tzp'), '--policy', at('verifier/policy.yaml'), '--json']);
    const { granted, checks, lease } = JSON.parse(run.stdout) as { readonly granted: boolean; readonly checks: readonly { readonly code: string; readonly result: string }[]; readonly lease?: { readonly trust: string; readonly leaseSeconds: number } };
    assert.deepEqual([run.code, granted, lease?.trust, lease?.leaseSeconds], [0, true, 'enrolled', LEASE_SECONDS], run.output);
    assert.ok(checks.some(({ code, result }) => code === 'quote.fresh' && result === 'skipped'));
    const strict = await tenzro(dataDir(), ['verifier', 'appraise', at('proof.tzp'), '--policy', at('auditor.yaml').replace('auditor', 'strict')]);
    assert.match(strict.output, /policy\.invalid/);
    const roots = await tenzro(dataDir(), ['verifier', 'appraise', at('proof.tzp'), '--policy', at('verifier/policy.yaml'), '--ek-roots', at('gateway.yaml')]);
    assert.match(roots.output, /gateway\.yaml is not a certificate[^]*policy\.invalid/);
  });

  it('keeps its policy when the file does not hold any more, and says so', async () => {
    await using verifier = await serve();
    const sound = await policyStatus();
    assert.equal(sound.fault, null);
    writeFileSync(at('verifier/policy.yaml'), 'version: 1\nacept: [dtpm]\n');
    const broken = await policyStatus();
    assert.match(broken.fault ?? '', /unknown key 'acept'/);
    assert.equal(broken.digest, sound.digest);
    writePolicy('dtpm');
    const mended = await policyStatus();
    assert.deepEqual([mended.fault, mended.digest === sound.digest], [null, false]);
    const readings = (): number => verifier.output.split('policy read').length;
    const before = readings();
    verifier.signal('SIGHUP');
    await until('the policy to be read at SIGHUP', () => readings() > before, { hopeless: () => (verifier.running ? undefined : verifier.output) });
    assert.ok(verifier.running);
  });

  it('refuses a folder that is furnished already, and keys that others can read', async () => {
    const again = await tenzro(dataDir(), ['verifier', 'init', '--dir', at('verifier')]);
    assert.equal(again.code, 2);
    assert.match(again.output, /verifier\.directory/);
    assert.deepEqual(parseDocumentText(readFileSync(at('verifier/policy.yaml'), 'utf8')).faults, [], 'the policy is as it was');
    chmodSync(at('verifier/verifier.seed'), 0o640);
    const open = await tenzro(dataDir(), ['verifier', 'serve', '--dir', at('verifier')]);
    assert.equal(open.code, 2);
    assert.match(open.output, /verifier\.seed has mode 640, not 600 \(verifier\.key\)/);
  });
});
