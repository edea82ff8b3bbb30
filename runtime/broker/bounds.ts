/** What differs between the front door of a gateway and the broker of a fleet, which serves thousands. */
import { LIMITS } from '#runtime/core/limits.ts';

export interface RetainedBounds {
  readonly retainedMax: number;
  readonly retainedBytesMax: number;
  /** Of those whose topics have the first two levels in common, as one gateway's have: it must not take the others' room. */
  readonly retainedPerTreeMax: number;
  readonly retainedPerTreeBytesMax: number;
}

export interface BrokerBounds extends RetainedBounds {
  readonly packetBytesMax: number;
  readonly connectionsMax: number;
  /** Bytes that may wait in the sockets of all subscribers together. */
  readonly backlogTotalBytesMax: number;
}

export const GATEWAY_BOUNDS: BrokerBounds = {
  packetBytesMax: LIMITS.packetBytesMax, connectionsMax: LIMITS.connectionsMax, retainedMax: LIMITS.retainedMax, retainedBytesMax: LIMITS.retainedBytesMax,
  retainedPerTreeMax: LIMITS.retainedMax, retainedPerTreeBytesMax: LIMITS.retainedBytesMax, backlogTotalBytesMax: LIMITS.subscriberBacklogTotalBytesMax,
};

export const FLEET_BOUNDS: BrokerBounds = {
  packetBytesMax: LIMITS.fleetPacketBytesMax, connectionsMax: LIMITS.fleetConnectionsMax, retainedMax: LIMITS.fleetRetainedMax, retainedBytesMax: LIMITS.fleetRetainedBytesMax,
  retainedPerTreeMax: LIMITS.fleetRetainedPerGatewayMax, retainedPerTreeBytesMax: LIMITS.fleetRetainedPerGatewayBytesMax, backlogTotalBytesMax: LIMITS.fleetBacklogTotalBytesMax,
};
