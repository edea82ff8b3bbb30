import assert from 'node:assert/strict';
import { LiveConsole } from '#runtime/cli/console.ts';
import { parseSince } from '#runtime/cli/log.ts';
import { renderEntryLine } from '#runtime/cli/render.ts';
import { GAP_BODY, INFERENCE_BODY, KIND, READING_BODY, READING_FLAG, REGISTRATION_BODY, type Cbor, type Entry, type KindNumber } from '#runtime/core/types.ts';

const WALL = 1_795_392_000_000_000; // 2026-11-23T00:00:00Z
const entry = (kind: KindNumber, source: string, body: Cbor, atMs = 0): Entry => ({ kind, source, wallMicros: WALL + atMs * 1000, bootEpoch: 1, monoMicros: atMs * 1000, body });
const reading = (source: string, value: number, atMs: number, flags = 0): Entry =>
  entry(KIND.reading, source, new Map<number, Cbor>([[READING_BODY.topic, 't'], [READING_BODY.values, [['rms', value, 'mm/s']]], [READING_BODY.flags, flags]]), atMs);
const inference = (verdict: string, atMs: number): Entry => entry(KIND.inference, 'device/motor//', new Map<number, Cbor>([
  [INFERENCE_BODY.model, 'motor-vibration'], [INFERENCE_BODY.verdict, verdict], [INFERENCE_BODY.score, 0.123456789], [INFERENCE_BODY.threshold, 1], [INFERENCE_BODY.provider, 'cpu'],
]), atMs);

describe('cli: rendering', () => {
  it('renders an entry as one line', () => {
    assert.equal(renderEntryLine(42, reading('device/motor//', 1.23456789, 0, READING_FLAG.simulated)), '     42  2026-11-23T00:00:00.000Z  reading      device/motor//        rms 1.2346 mm/s (simulated)');
    assert.match(renderEntryLine(43, inference('anomaly', 0)), /inference\s+device\/motor\/\/\s+motor-vibration: anomaly, score 0\.12346 against 1 on cpu$/);
    assert.match(renderEntryLine(44, entry(KIND.gap, 'device/main//', new Map<number, Cbor>([[GAP_BODY.reason, 'queue full'], [GAP_BODY.count, 3]]))), /3 lost: queue full$/);
  });

  it('bounds the line, and shows no control character', () => {
    const line = renderEntryLine(1, entry(KIND.event, 'device/\u001b[31mx//', `${'y'.repeat(500)}\n`));
    assert.ok(line.length < 220 && !/[\u0000-\u001f]/.test(line), line);
  });

  it('reads times and ages', () => {
    assert.equal(parseSince('2h', WALL), WALL - 7_200_000_000);
    assert.equal(parseSince('2026-11-23T00:00Z', 0), WALL);
    assert.throws(() => parseSince('soon', 0), /neither a time/);
  });
});

describe('cli: console', () => {
  let lines: string[];
  let live: LiveConsole;
  beforeEach(() => {
    lines = [];
    live = new LiveConsole({ write: (line) => { lines.push(line); }, color: false, command: 'TENZRO_DATA=/d npx tenzro', policies: 'docs/policies' });
  });

  it('shows a sample of readings in which every source has its turn', () => {
    for (let atMs = 0; atMs < 10_000; atMs += 5) for (const source of ['a', 'b', 'c']) live.show({ type: 'entry', index: atMs, entry: reading(`device/${source}//`, 1, atMs) });
    assert.deepEqual(lines.map((line) => line.slice(7, 8)), ['a', 'b', 'c', 'a', 'b', 'c']);
    for (let i = 0; i < 50_000; i++) live.show({ type: 'entry', index: i, entry: reading(`device/${i}//`, 1, 20_000 + i / 10) });
    assert.ok(lines.length <= 6 + 11, `${lines.length} lines`);
  });

  it('greets a new device by its name', () => {
    live.show({ type: 'entry', index: 0, entry: entry(KIND.registration, 'device/pump//', new Map<number, Cbor>([[REGISTRATION_BODY.how, 'message'], [REGISTRATION_BODY.name, 'Pump 7']])) });
    live.show({ type: 'entry', index: 1, entry: entry(KIND.registration, 'device/pump//', new Map<number, Cbor>([[REGISTRATION_BODY.how, 'metadata']])) });
    assert.deepEqual(lines.map((line) => line.replace(/ +/, ' ')), ['device/pump// new device: Pump 7']);
  });

  it('shows a verdict when it changes', () => {
    for (const [i, verdict] of ['normal', 'normal', 'anomaly', 'anomaly', 'normal'].entries()) live.show({ type: 'entry', index: i, entry: inference(verdict, i * 1000) });
    assert.deepEqual(lines.map((line) => /vibration: (\w+)/.exec(line)?.[1]), ['normal', 'anomaly', 'normal']);
  });

  it('stays calm in a flood of rare things', () => {
    for (let i = 0; i < 5_000; i++) live.show({ type: 'entry', index: i, entry: entry(KIND.alarm, `device/d${i}//`, 'hot', i / 5) });
    assert.ok(lines.length <= 5, `${lines.length} lines in 1 s`);
  });

  it('gives the hint once, for an inference that the block covers', () => {
    const block = (sequence: number, treeSize: number): void => { live.show({ type: 'block', sequence, treeSize, root: new Uint8Array(32), level: 'emulated' }); };
    block(0, 2);
    live.show({ type: 'entry', index: 7, entry: inference('normal', 0) });
    block(1, 7);
    assert.equal(lines.some((line) => line.includes('proof')), false, 'block 1 ends before entry 7');
    block(2, 8);
    assert.deepEqual(lines.slice(-2).map((line) => line.trim()), [
      'TENZRO_DATA=/d npx tenzro proof 7 -o reading.tzp',
      'TENZRO_DATA=/d npx tenzro verify reading.tzp --policy docs/policies/allow-emulated.yaml',
    ]);
    block(3, 9);
    assert.match(lines.at(-1) ?? '', /^block 3 .*\+1 entries, 9 in all · root 0000000000000000… · emulated$/);
  });
});
