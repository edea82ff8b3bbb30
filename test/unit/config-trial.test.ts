import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { faultOfPart, fleetPartOf, isSamePart, withPart } from '#runtime/config/fleetPart.ts';
import { ConfigTrial } from '#runtime/config/trial.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { tempDir } from '#test/support/temp.ts';

const GOOD = '# by hand\nversion: 1\nlog: { level: info }\n';
const NEXT = 'version: 1\nlog: { level: warn }\n';
const ORIGIN = { kind: 'twin', version: 3 } as const;

describe('config: a file on trial', () => {
  const held = (path: string): string | undefined => (existsSync(path) ? readFileSync(path, 'utf8') : undefined);
  const trying = (text: string | undefined, judge: (trial: ConfigTrial, file: string) => void): void => {
    using dir = tempDir('trial');
    const file = join(dir.path, 'tenzro.yaml');
    if (text !== undefined) writeFileSync(file, text, { mode: 0o640 });
    judge(new ConfigTrial(file), file);
  };

  it('goes back byte for byte, and says why until its origin has heard it', () => {
    trying(GOOD, (trial, file) => {
      trial.begin(NEXT, ORIGIN);
      assert.deepEqual([held(file), held(`${file}.before`), statSync(file).mode & 0o777, statSync(`${file}.trial`).mode & 0o777], [NEXT, GOOD, 0o640, 0o600]);
      assert.equal(trial.takeBack('no link'), 'no link');
      assert.deepEqual([held(file), trial.current?.takenBack, trial.current?.origin], [GOOD, 'no link', ORIGIN]);
      assert.equal(trial.takeBack('again'), undefined);
      assert.throws(() => trial.begin(NEXT, ORIGIN), { code: 'config.on_trial' });
      trial.end();
      assert.equal(trial.current, undefined);
    });
    trying(undefined, (trial, file) => {
      trial.begin(NEXT, ORIGIN);
      trial.takeBack('no file before');
      assert.equal(held(file), undefined);
    });
  });

  it('is finished at the next start wherever a kill interrupts it', () => {
    trying(GOOD, (trial, file) => {
      trial.begin(NEXT, ORIGIN);
      trial.takeBack('cut off');
      writeFileSync(file, NEXT); // as if the kill came before the text was back
      assert.equal(new ConfigTrial(file).start(), undefined);
      assert.deepEqual([held(file), trial.current?.takenBack], [GOOD, 'cut off']);
    });
    trying(GOOD, (trial, file) => {
      trial.begin(NEXT, ORIGIN);
      writeFileSync(file, GOOD); // as if the kill came before the file was replaced
      trial.start();
      assert.deepEqual([held(file), trial.current], [GOOD, undefined]);
    });
  });

  it('is taken back where the gateway starts over and over', () => {
    trying(GOOD, (trial, file) => {
      trial.begin(NEXT, ORIGIN);
      for (let start = 0; start <= LIMITS.twinProbationStartsMax; start++) assert.equal(trial.start(), undefined);
      assert.match(trial.start() ?? '', /was started 4 times/);
      assert.equal(held(file), GOOD);
    });
  });

  it('leaves alone what somebody at the machine wrote since', () => {
    trying(GOOD, (trial, file) => {
      trial.begin(NEXT, ORIGIN);
      writeFileSync(file, '# mine\n');
      assert.equal(trial.takeBack('late'), undefined);
      trial.start();
      assert.deepEqual([held(file), trial.current], ['# mine\n', undefined]);
    });
    trying(GOOD, (trial, file) => {
      writeFileSync(`${file}.trial`, '{"version":1,"origin":');
      assert.deepEqual([trial.start(), held(file)], [undefined, GOOD], 'nor does a damaged record undo anything');
    });
  });
});

describe('config: the part that the fleet may set', () => {
  const text = '# site 7\nversion: 1\nnode: { name: gw1 }\nmqtt:\n  port: 1884 # behind the panel\n  users: [{ name: anonymous, publish: [a/#] }]\nattest: { intervalMs: 20000, tpm: { mode: none } }\nforward: [{ topic: te/a/#, mode: never }]\n';

  it('is told without what is decided at the machine', () => {
    assert.deepEqual(fleetPartOf(text), { mqtt: { port: 1884 }, attest: { intervalMs: 20_000 } });
    assert.deepEqual([fleetPartOf(''), fleetPartOf('{'), fleetPartOf('mqtt: { users: [] }')], [{}, {}, { mqtt: {} }]);
    assert.ok(isSamePart({ mqtt: {} }, {}) && !isSamePart({ log: { level: 'warn' } }, {}));
  });

  it('is replaced as a whole, and nothing else is', () => {
    const next = withPart(text, { log: { level: 'warn' }, attest: { intervalMs: 30_000 } });
    assert.match(next, /^# site 7\n/);
    assert.deepEqual(fleetPartOf(next), { mqtt: {}, log: { level: 'warn' }, attest: { intervalMs: 30_000 } });
    assert.ok(next.includes('mode: none') && next.includes('anonymous') && next.includes('name: gw1'));
    assert.equal(withPart(text, fleetPartOf(text)), text, 'the same value leaves every byte');
    assert.deepEqual(fleetPartOf(withPart('', { system: { enabled: false } })), { system: { enabled: false } });
  });

  it('is refused with the reason', () => {
    const faults: readonly (readonly [Parameters<typeof faultOfPart>[0], RegExp])[] = [
      [{ mqtt: { prot: 1 } }, /mqtt\.prot: is not a known key \(did you mean 'port'\?\)/], [{ attest: { intervalMs: 5 } }, /attest\.intervalMs: 5 is out of range/], [{ dataDir: '/tmp' }, /dataDir: not the fleet's to set/],
      [{ mqtt: { users: [] } }, /mqtt\.users: not the fleet's to set/], [{ attest: { tpm: {} } }, /attest\.tpm: not/], [{ log: null }, /null is no value/], ['text', /is a section/], [{ mqtt: [] }, /expected a section/], [{ node: { name: 'b' } }, /node: not/], [{ forward: [] }, /forward: not the fleet's to set/],
    ];
    for (const [value, why] of faults) assert.match(faultOfPart(value, text, '/etc/tenzro/tenzro.yaml', '/opt/tenzro') ?? 'taken', why);
    assert.equal(faultOfPart({ log: { level: 'debug' } }, text, '/etc/tenzro/tenzro.yaml', '/opt/tenzro'), undefined);
  });
});
