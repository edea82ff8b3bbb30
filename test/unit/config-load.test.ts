import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, loadConfig, problemLine, type LoadOptions, type LoadedConfig } from '#runtime/config/load.ts';
import { editDistance, nearest } from '#runtime/config/nearest.ts';
import { shownValues } from '#runtime/config/show.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { tempDir, type TempDir } from '#test/support/temp.ts';

const HASH = 'scrypt$16384$8$5$NBpj1Ygq1+9d7VrsmAaUyQ==$yBkdvSnlwpu42y6OEwVkmdRgnGrI6czC0jG7AWJcRSc=';

describe('config', () => {
  let dir: TempDir;
  beforeEach(() => { dir = tempDir('config'); });
  afterEach(() => { dir[Symbol.dispose](); });

  const options = (more: Partial<LoadOptions> = {}): LoadOptions => ({ appRoot: dir.path, cwd: dir.path, env: {}, flags: {}, ...more });
  const load = (yaml: string, more: Partial<LoadOptions> = {}): LoadedConfig => {
    writeFileSync(join(dir.path, 'c.yaml'), yaml);
    return loadConfig(options({ flags: { config: 'c.yaml' }, ...more }));
  };
  /** The problems as `line:column key message`, with the hint in parentheses. */
  const problems = (yaml: string, more: Partial<LoadOptions> = {}): readonly string[] => {
    try {
      load(yaml, more);
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return error.problems.map((problem) => problemLine(problem).replace(`${dir.path}/c.yaml:`, ''));
    }
    return [];
  };

  it('needs no file, and an empty one says the same', () => {
    const { settings, file } = loadConfig(options());
    assert.equal(file, undefined);
    assert.equal(settings.mqtt.port, 1883);
    assert.equal(settings.attest.intervalMs, LIMITS.blockIntervalMs);
    assert.equal(settings.infer.modelsDir, join(dir.path, 'models'));
    assert.match(settings.node.name, /^[A-Za-z0-9_-]+$/);
    for (const yaml of ['', '# nothing\n', 'version: 1\n', 'mqtt:\nattest: { tpm: }\n', '{}']) assert.deepEqual(load(yaml).settings, settings);
  });

  it('takes the example of the reference page', () => {
    const page = readFileSync(new URL('../../docs/reference/configuration.md', import.meta.url), 'utf8');
    const { settings } = load(/```yaml\n(.*?)```/s.exec(page)?.[1] ?? 'missing');
    assert.equal(settings.node.name, 'boiler-house');
    assert.equal(settings.mqtt.listeners[0]?.tls?.certFile, join(dir.path, 'tls/gateway.pem'), 'paths are relative to the file');
    assert.deepEqual(settings.ingest.record.map(({ mode, windowMs, deadband }) => [mode, windowMs, deadband]), [['summary', 60_000, 0], ['onChange', 0, 0], ['every', 0, 0]]);
    assert.deepEqual([settings.mqtt.listeners[0]?.tls?.minVersion, settings.confidential.recipients], ['TLSv1.3', [{ name: 'owner', publicKeyFile: join(dir.path, 'owner.key.pub') }]]);
  });

  it('names every unknown key with its place and the nearest known one', () => {
    assert.deepEqual(problems('mqtt:\n  prot: 1\n  listeners:\n    - port: 9\n      host: localhost\n      anonymuos: true\nrecord: []\nzebra: 1\n'), [
      "2:3: mqtt.prot: is not a known key (did you mean 'port'?)",
      "6:7: mqtt.listeners[0].anonymuos: is not a known key (did you mean 'anonymous'?)",
      "7:1: record: is not a known key (did you mean 'ingest.record'?)",
      '8:1: zebra: is not a known key (known here: version, node, dataDir, mqtt, ingest, confidential, system, infer, ledger, attest, identity, verifier, fleet, actuators, claim, portal, update, uplinks, forward, log)',
    ]);
    assert.deepEqual(problems('__proto__: 1\n').length, 1);
  });

  it('names wrong types, ranges and words', () => {
    assert.deepEqual(problems('mqtt: { port: "1883" }\nattest: { intervalMs: 10 }\nlog: { level: loud }\nnode: { name: a b }\nsystem: []\n'), [
      '1:9: mqtt.port: expected number, found "1883"',
      '2:11: attest.intervalMs: 10 is out of range: at least 1000',
      '3:8: log.level: expected debug, info, warn, error, found "loud"',
      '4:9: node.name: use letters, digits, _ and - only',
      '5:1: system: expected a section, found a list',
    ]);
    assert.deepEqual(problems('mqtt: { port: .nan }\n'), ['1:9: mqtt.port: expected number, found NaN']);
    assert.deepEqual(problems('- 1\n'), ['1:1: expected a section, found a list']);
  });

  it('names what YAML itself refuses', () => {
    assert.match(problems('mqtt:\n  port: 1\n  port: 2\n').join(), /^3:3: .*unique/);
    assert.match(problems('mqtt: [1\n').join(), /^2:1: /);
    assert.match(problems('a: &a [x]\n---\nb: 1\n').join(), /documents/);
  });

  it('refuses a file of a newer version', () => {
    assert.throws(() => load('version: 2\nsomethingNew: 1\n'), (error) => error instanceof ConfigError && error.code === 'config.newer_version');
    assert.deepEqual(problems('version: one\n').length, 1);
  });

  it('keeps everybody who comes from beyond loopback from being anonymous', () => {
    assert.match(problems('mqtt: { listeners: [{ host: 0.0.0.0, port: 1, anonymous: true }] }').join(), /^1:47: mqtt\.listeners\[0\]\.anonymous: 0\.0\.0\.0 is beyond loopback/);
    assert.match(problems('mqtt: { listeners: [{ host: 10.0.0.7, port: 1 }] }').join(), /names nobody who could log in/);
    assert.match(problems('mqtt: { listeners: [{ host: 10.0.0.7, port: 1 }], users: [{ name: anonymous }] }').join(), /names nobody who could log in/);
    assert.deepEqual(problems('mqtt: { listeners: [{ host: 127.0.0.2, port: 1, anonymous: true }, { host: "::1", port: 2, anonymous: true }] }'), []);
    assert.deepEqual(problems(`mqtt: { listeners: [{ host: 10.0.0.7, port: 1 }], users: [{ name: a, passwordHash: ${HASH} }] }`), []);
  });

  it('refuses a port that is taken twice', () => {
    assert.match(problems('mqtt: { port: 7, listeners: [{ host: localhost, port: 7 }] }').join(), /7 is already taken by mqtt\.port/);
    assert.match(problems(`mqtt: { listeners: [{ host: 127.0.0.2, port: 7, anonymous: true }, { port: 7 }], users: [{ name: a, passwordHash: ${HASH} }] }`).join(), /mqtt\.listeners\[1\]\.port: 7 is already taken by mqtt\.listeners\[0\]/);
    assert.deepEqual(problems('mqtt: { port: 0, listeners: [{ host: localhost, port: 0 }] }'), []);
  });

  it('checks users', () => {
    const user = (fields: string): readonly string[] => problems(`mqtt: { users: [{ name: a, ${fields} }] }`);
    assert.match(user('publish: [a]').join(), /passwordHash is missing/);
    assert.match(user('passwordHash: hunter2').join(), /make it with: tenzro config hash-password/);
    assert.doesNotMatch(user('passwordHash: 12345678').join(), /12345678/, 'a password typed in by mistake is not printed');
    assert.match(user(`passwordHash: ${HASH.replace('16384', '1024')}`).join(), /scrypt cost/);
    assert.match(user(`passwordHash: ${HASH}, publish: ["a/#/b"]`).join(), /users\[0\]\.publish\[0\]: 'a\/#\/b': # must stand alone in the last level/);
    assert.match(user(`passwordHash: ${HASH}, subscribe: [ok/+, "a+/b"]`).join(), /subscribe\[1\]: 'a\+\/b': \+ must fill its level/);
    assert.match(problems('mqtt: { users: [{ name: anonymous }, { name: anonymous }] }').join(), /there twice/);
  });

  it('checks what mappings and recording rules say against each other', () => {
    const mapping = (fields: string): string => problems(`ingest: { mappings: [{ name: m, ${fields} }] }`).join();
    assert.equal(mapping('topic: x/+, source: "device/{1}//", values: [{ channel: c }]'), '');
    assert.match(mapping('topic: x/+, source: "device/{2}//", values: [{ channel: c }]'), /\{2\}: the topic has 1/);
    assert.match(mapping('topic: x, source: pump, values: [{ channel: c }]'), /not an entity/);
    assert.match(mapping('topic: x, source: device/a//, values: [{ channel: c, path: p }, { channel: d }]'), /values\[1\]: path is missing/);
    assert.match(mapping('topic: x, source: device/a//, values: [{ channel: c, path: p }, { channel: c, path: q }]'), /'c' is there twice/);
    const rule = (fields: string): string => problems(`ingest: { record: [{ topic: t, ${fields} }] }`).join();
    assert.equal(rule('mode: summary, windowMs: 1000'), '');
    assert.match(rule('mode: summary'), /record\[0\]\.mode: mode: summary needs windowMs/);
    assert.match(rule('mode: every, windowMs: 1000'), /windowMs: has a meaning only with mode: summary/);
    assert.match(rule('mode: every, deadband: 1'), /deadband: has a meaning only with mode: onChange/);
  });

  it('checks what may be called of what acts, and when maintenance is', () => {
    const rows = (row: string, calls = ''): string => problems(`actuators: [{ driver: fan, operation: speed, min: 0, max: 9${row} }]\nfleet: { driverCalls: [${calls}] }`).join();
    assert.equal(rows('', 'fan.speed'), '');
    assert.match(rows('', 'fan.sped'), /driverCalls\[0\]: 'fan\.sped' is none of actuators/);
    assert.match(rows('', 'fan'), /write driver\.operation/);
    assert.match(rows(', key: k'), /key: has a meaning only with topic/);
    assert.match(rows(', topic: a/+/b'), /one topic, without wildcards/);
    assert.match(rows(', topic: te/device/main///cmd/restart/1'), /topics of the gateway itself/);
    assert.match(problems('actuators: [{ driver: main, operation: restart, min: 0, max: 1 }]').join(), /main is the gateway itself/);
    assert.match(problems('actuators: [{ driver: fan, operation: speed, min: 2, max: 1 }]').join(), /max \(1\) is below min \(2\)/);
    assert.match(problems('actuators: [{ driver: fan, operation: speed, min: 0, max: 1 }, { driver: fan, operation: speed, min: 0, max: 1 }]').join(), /'fan\.speed' is there twice/);
    assert.deepEqual(problems("fleet: { maintenance: [{ days: [mon], from: '22:00', to: '02:00' }] }"), []);
    assert.match(problems("fleet: { maintenance: [{ from: '24:00', to: '02:00' }] }").join(), /write hh:mm/);
    assert.match(problems("fleet: { maintenance: [{ days: [monday], from: '22:00', to: '02:00' }] }").join(), /days\[0\]/);
  });

  it('asks who could read what is confidential, and keeps the TLS version that was chosen', () => {
    const rule = 'ingest: { record: [{ topic: t, mode: every, confidential: true }] }';
    assert.match(problems(rule).join(), /ingest\.record\[0\]\.confidential: confidential\.recipients names nobody/);
    const owner = '{ name: owner, publicKeyFile: k }';
    assert.deepEqual(problems(`${rule}\nconfidential: { recipients: [${owner}] }`), []);
    assert.match(problems(`confidential: { recipients: [${owner}, ${owner}] }`).join(), /'owner' is there twice/);
    const tls = (version: string): string => `mqtt: { listeners: [{ host: localhost, port: 9, tls: { certFile: a, keyFile: b${version} } }] }`;
    assert.equal(load(tls('')).settings.mqtt.listeners[0]?.tls?.minVersion, 'TLSv1.3');
    assert.equal(load(tls(', minVersion: TLSv1.2')).settings.mqtt.listeners[0]?.tls?.minVersion, 'TLSv1.2');
    assert.match(problems(tls(', minVersion: TLSv1.1')).join(), /minVersion/);
  });

  it('takes one uplink for each broker, however its address is written', () => {
    const uplink = (name: string, url: string): string => `{ name: ${name}, url: "${url}", receiptKey: "${name.repeat(64)}" }`;
    const told = (...urls: readonly string[]): string => problems(`uplinks: [${urls.map((url, at) => uplink('abc'.charAt(at), url)).join(', ')}]`).join();
    assert.equal(told('mqtts://one.example', 'mqtts://two.example', 'mqtts://one.example:8884'), '');
    assert.match(told('mqtts://one.example', 'mqtts://ONE.example:8883'), /uplinks\[1\]\.url: 'a' is on that broker already/);
  });

  it('checks what the attester is told', () => {
    assert.match(problems('attest: { intervalMs: 20000, idleIntervalMs: 10000 }').join(), /attest\.idleIntervalMs: idleIntervalMs \(10000\) must not be shorter than intervalMs \(20000\)/);
    assert.match(problems('attest: { intervalMs: 700000 }').join(), /^1:11: attest\.intervalMs/, 'the key that the file states is the one to mend');
    assert.match(problems('attest: { tpm: { mode: socket } }').join(), /needs attest\.tpm\.path/);
    assert.match(problems('verifier: { url: "https://v.example:8775" }').join(), /verifier\.url: verifier\.url needs verifier\.key/);
    assert.match(problems(`verifier: { key: "${'ab'.repeat(32)}" }`).join(), /verifier\.key: has a meaning only with verifier\.url/);
    assert.deepEqual(problems(`verifier: { url: "https://v.example:8775", key: "${'ab'.repeat(32)}" }`), []);
    assert.match(problems('attest: { tpm: { path: /dev/tpm0 } }').join(), /has a meaning only with mode: device or socket/);
  });

  it('says where every value comes from', () => {
    const loaded = load('node: { name: a }\nmqtt:\n  port: 7\n', { env: { TENZRO_DATA: 'd', TENZRO_MQTT_PORT: '8', TENZRO_CONFIG: 'c.yaml' }, flags: { mqttPort: '9' } });
    assert.equal(loaded.settings.dataDir, join(dir.path, 'd'));
    assert.equal(loaded.settings.mqtt.port, 9);
    assert.deepEqual(loaded.originOf('mqtt.port'), { from: 'flag', name: '--mqtt-port' });
    assert.deepEqual(loaded.originOf('dataDir'), { from: 'environment', name: 'TENZRO_DATA' });
    assert.deepEqual(loaded.originOf('node.name'), { from: 'file', file: join(dir.path, 'c.yaml'), line: 1 });
    assert.deepEqual(loaded.originOf('log.level'), { from: 'default' });
  });

  it('finds the file in the data directory, and says which one cannot be read', () => {
    writeFileSync(join(dir.path, 'tenzro.yaml'), 'node: { name: found }\n');
    assert.equal(loadConfig(options({ env: { TENZRO_DATA: dir.path } })).settings.node.name, 'found');
    assert.throws(() => loadConfig(options({ env: { TENZRO_CONFIG: 'none.yaml' } })), (error) => error instanceof ConfigError && error.code === 'config.unreadable' && error.message.includes('TENZRO_CONFIG'));
  });

  it('holds the rules for overrides too', () => {
    for (const port of ['x', '-1', '65536', '1.5']) assert.deepEqual(problems('', { flags: { config: 'c.yaml', mqttPort: port } }), [`--mqtt-port: mqtt.port: '${port}' is not a port: give 0 to 65535`]);
    assert.match(problems('mqtt: { listeners: [{ host: localhost, port: 9 }] }', { flags: { config: 'c.yaml', mqttPort: '9' } }).join(), /already taken/);
  });

  it('shows no secret', () => {
    const shown = JSON.stringify(shownValues(load(`mqtt: { users: [{ name: a, passwordHash: ${HASH} }] }`)));
    assert.ok(shown.includes('(set)') && !shown.includes('scrypt'));
  });

  it('knows how far words are apart', () => {
    assert.equal(editDistance('kitten', 'sitting'), 3);
    assert.equal(editDistance('', 'abc'), 3);
    assert.equal(nearest('levle', ['level', 'log']), 'level');
    assert.equal(nearest('banana', ['level', 'log']), undefined);
  });
});
