import assert from 'node:assert/strict';
import type { MappingRule } from '#runtime/core/settings.ts';
import { READING_BODY, READING_FLAG, REGISTRATION_BODY, type Cbor } from '#runtime/core/types.ts';
import { createDecoder } from '#runtime/ingest/decoder.ts';
import { inbound } from '#test/support/messages.ts';

type Body = ReadonlyMap<number, Cbor>;

const mappings: readonly MappingRule[] = [
  {
    name: 'tasmota', topic: 'tele/+/SENSOR', source: 'device/{1}//',
    values: [
      { path: 'AM2301.Temperature', channel: 'temperature', unit: '°C' }, { path: 'AM2301.Humidity', channel: 'humidity', unit: '%' },
      { path: 'ENERGY.Power', channel: 'power', unit: 'W' },
    ],
  },
  { name: 'esphome', topic: '+/sensor/+/state', source: 'device/{1}//', values: [{ channel: '{2}', unit: '' }] },
  {
    name: 'zigbee', topic: 'zigbee2mqtt/+', source: 'device/{1}//',
    values: [{ path: 'temperature', channel: 'temperature', unit: '°C' }, { path: 'contact', channel: 'contact', unit: '' }, { path: 'battery', channel: 'battery', unit: '%' }],
  },
  {
    name: 'shelly', topic: '+/events/rpc', source: 'device/{1}//',
    values: [
      { path: 'params.switch:0.apower', channel: 'power', unit: 'W' }, { path: 'params.switch:0.aenergy.by_minute[0]', channel: 'energy', unit: 'mW.h' },
      { path: 'params.switch:0.output', channel: 'output', unit: '' },
    ],
  },
  { name: 'matrix', topic: 'grid/#', source: 'device/grid//', values: [{ path: '[1][0]', channel: 'cell', unit: '' }] },
];

/** [device, rule, topic, payload as the device sends it, source, values] */
const SHAPES: readonly (readonly [string, string, string, string, string, Cbor])[] = [
  ['Tasmota with one of two sensors', 'tasmota', 'tele/plug-1/SENSOR', '{"Time":"2026-11-23T10:00:00","AM2301":{"Temperature":21.5,"Humidity":44.0},"TempUnit":"C"}', 'device/plug-1//', [['temperature', 21.5, '°C'], ['humidity', 44, '%']]],
  ['Tasmota energy', 'tasmota', 'tele/plug-2/SENSOR', '{"Time":"2026-11-23T10:00:00","ENERGY":{"Total":1.2,"Power":230}}', 'device/plug-2//', [['power', 230, 'W']]],
  ['ESPHome bare number', 'esphome', 'kitchen/sensor/temperature/state', '21.46', 'device/kitchen//', [['temperature', 21.46, '']]],
  ['ESPHome bare number, signed, with a newline', 'esphome', 'kitchen/sensor/rssi/state', '-6.7e1\n', 'device/kitchen//', [['rssi', -67, '']]],
  ['Zigbee2MQTT with an unknown value', 'zigbee', 'zigbee2mqtt/door', '{"battery":97,"contact":false,"temperature":null,"linkquality":120}', 'device/door//', [['contact', 0, ''], ['battery', 97, '%']]],
  ['Zigbee2MQTT with a number in a string', 'zigbee', 'zigbee2mqtt/room', '{"temperature":"19.25"}', 'device/room//', [['temperature', 19.25, '°C']]],
  ['Shelly generation 2', 'shelly', 'shellyplus1pm-a1/events/rpc', '{"src":"shellyplus1pm-a1","dst":"shelly/events","method":"NotifyStatus","params":{"ts":1.5,"switch:0":{"id":0,"apower":12.5,"output":true,"aenergy":{"by_minute":[45.6,0,0]}}}}',
    'device/shellyplus1pm-a1//', [['power', 12.5, 'W'], ['energy', 45.6, 'mW.h'], ['output', 1, '']]],
  ['an array of arrays', 'matrix', 'grid/a/b/c', '[[1],[2]]', 'device/grid//', [['cell', 2, '']]],
];

describe('ingest: other devices\' topics', () => {
  for (const [device, rule, topic, payload, source, values] of SHAPES) {
    it(device, () => {
      const decoder = createDecoder({ registration: 'auto', record: [], mappings });
      const outcome = decoder.decode(inbound(topic, payload));
      assert.ok(outcome.kind === 'record', JSON.stringify(outcome));
      assert.equal(outcome.source, source);
      assert.deepEqual((outcome.body as Body).get(READING_BODY.values), values);
      assert.equal((outcome.body as Body).get(READING_BODY.mapping), rule);
      const [registration] = decoder.due(0, 0);
      assert.equal(registration?.source, source);
      assert.equal((registration.body as Body).get(REGISTRATION_BODY.topic), topic);
    });
  }

  it('follows own properties only', () => {
    const values = ['__proto__.x', 'constructor.name', 'a.length', 'b.0'].map((path, i) => ({ path, channel: `c${i}`, unit: '' }));
    const decoder = createDecoder({ registration: 'auto', record: [], mappings: [{ name: 'r', topic: 'x', source: 'device/x//', values }] });
    const outcome = decoder.decode(inbound('x', '{"a":"text","b":[1]}'));
    assert.equal(outcome.kind === 'reject' && outcome.code, 'ingest.mapping');
  });

  it('refuses a channel name that the topic makes invalid', () => {
    const outcome = createDecoder({ registration: 'auto', record: [], mappings }).decode(inbound('kitchen/sensor//state', '1'));
    assert.equal(outcome.kind === 'reject' && outcome.code, 'ingest.name');
  });

  it('marks a mapped payload that says it is simulated', () => {
    const outcome = createDecoder({ registration: 'auto', record: [], mappings }).decode(inbound('zigbee2mqtt/room', '{"temperature":1,"simulated":true}'));
    assert.ok(outcome.kind === 'record');
    assert.equal((outcome.body as Body).get(READING_BODY.flags), READING_FLAG.simulated);
  });
});
