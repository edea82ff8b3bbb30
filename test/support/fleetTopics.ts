/** Every kind of topic on a fleet's broker, below `te/<gateway>`, and whether the gateway itself may say it: what each broker of a fleet has to enforce. */
export const FLEET_TOPICS: readonly (readonly [topic: string, isItsOwnWord: boolean])[] = [
  ['status', true],
  ['chain/ab12/up', true],
  ['chain/ab12/receipt', false],
  ['device/main///cmd/restart', true],
  ['device/main///cmd/restart/1', true],
  ['device/main///twin/config', true],
  ['device/main///twin/config/desired', false],
  ['device/main///twin/config/confirm', false],
  ['device/pump/service/x/twin/config/desired', false],
  ['device/main///m/environment', true],
  ['device/main///e/door', true],
  ['device/main///a/heat', true],
  ['device/main//', true],
];
