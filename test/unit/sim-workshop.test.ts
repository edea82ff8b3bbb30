import assert from 'node:assert/strict';
import { parsePlayerArguments } from '#drivers/sim/player.ts';
import { workshop, WORKSHOP_DEFAULTS } from '#drivers/sim/workshop.ts';
import { KIND, READING_BODY, READING_FLAG, type Cbor } from '#runtime/core/types.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { inbound } from '#test/support/messages.ts';

const HOUR_S = 3_600;

describe('sim: the workshop', () => {
  it('tells the same story for the same seed', () => {
    const story = (seed: number): unknown => workshop({ ...WORKSHOP_DEFAULTS, seed }).map((device) => Array.from({ length: 50 }, () => device.next()));
    assert.deepEqual(story(1), story(1));
    assert.notDeepEqual(story(1), story(2));
  });

  it('a night of it is thin-edge JSON that the gateway records, and all of it says that it is simulated', () => {
    for (const device of workshop(WORKSHOP_DEFAULTS)) {
      const decoder = createDecoder({ registration: 'auto', mappings: [], record: [] });
      const kinds = new Set<number>();
      let last: ReadonlyMap<number, Cbor> = new Map();
      const send = (subtopic: string, payload: string): void => {
        const outcome = decoder.decode(inbound(`te/device/${device.id}///${subtopic}`, payload));
        assert.ok(outcome.kind === 'record', `${subtopic} ${payload}: ${JSON.stringify(outcome)}`);
        kinds.add(outcome.entryKind);
        last = outcome.body as ReadonlyMap<number, Cbor>;
        if (payload !== '' && outcome.entryKind !== KIND.registration) assert.equal(last.get(READING_BODY.flags), READING_FLAG.simulated);
      };
      for (const { subtopic, payload } of device.metadata) send(subtopic, payload);
      const hours = device.id === 'cold-store' ? 12 : 0.2;
      for (let atS = 0; atS < hours * HOUR_S; atS += device.intervalS) for (const { subtopic, payload } of device.next()) send(subtopic, payload);
      const values = last.get(READING_BODY.values) as readonly (readonly [string, number, string])[];
      assert.ok(values.every(([, , unit]) => unit !== ''), 'every channel has a unit');
      if (device.id === 'cold-store') assert.deepEqual([...kinds].toSorted((a, b) => a - b), [KIND.reading, KIND.event, KIND.alarm, KIND.registration]);
    }
  });

  it('the cold store stays a freezer, the grid stays a grid', () => {
    const numbers = (text: string): Record<string, number> => JSON.parse(text) as Record<string, number>;
    const [, cold, power] = workshop(WORKSHOP_DEFAULTS);
    const climate = Array.from({ length: 5_000 }, () => numbers(cold?.next().find(({ subtopic }) => subtopic === 'm/climate')?.payload ?? '{}'));
    for (const { temperature = 99 } of climate) assert.ok(temperature > -25 && temperature < 4, String(temperature));
    assert.ok(climate.some(({ compressor }) => compressor === 0) && climate.some(({ compressor, door }) => compressor === 1 && door === 1));
    for (let i = 0; i < 500; i++) {
      const { frequency = 0 } = numbers(power?.next()[0]?.payload ?? '{}');
      assert.ok(frequency > 49.8 && frequency < 50.2);
    }
  });
});

describe('sim: the player\'s arguments', () => {
  it('defaults', () => {
    const { port, speed, seed, faultAfterS, giveUpAfterMs, verbose } = parsePlayerArguments(['workshop']);
    assert.deepEqual({ port, speed, seed, faultAfterS, giveUpAfterMs, verbose }, { port: 1883, speed: 1, seed: 1, faultAfterS: 45, giveUpAfterMs: 60_000, verbose: false });
    assert.equal(parsePlayerArguments(['workshop', '--fault-after', 'never']).faultAfterS, Infinity);
  });

  for (const args of [[], ['cellar'], ['workshop', 'twice'], ['workshop', '--port', '0'], ['workshop', '--speed', 'fast'], ['workshop', '--seed', ''], ['workshop', '--colour']]) {
    it(`refuses ${JSON.stringify(args)}`, () => { assert.throws(() => parsePlayerArguments(args)); });
  }
});
