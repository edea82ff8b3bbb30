/** What each gateway reports, as it arrives: its retained status and its twins. In memory only: the broker retains it, and tells it again at every connect. */
import { TenzroError } from '#runtime/core/errors.ts';
import { isJsonObject, parseBoundedJson, type Json, type JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import type { Counters, LinkUser } from '#runtime/core/ports.ts';
import { MAIN_ENTITY } from '#runtime/core/topic.ts';
import { decodeReported } from '#runtime/core/twin.ts';
import type { GatewayView } from './query.ts';

/** Whatever knows what the gateways report. */
export interface FleetViews {
  get(gateway: string): GatewayView | undefined;
  all(): Iterable<GatewayView>;
  /** Told of every change. MUST NOT throw. */
  listen(listener: (view: GatewayView) => void): Disposable;
}

const STATUS_BOUNDS = { bytesMax: 16 * 1024, depthMax: LIMITS.twinDepthMax, valuesMax: LIMITS.twinValuesMax };
const TOPIC = new RegExp(`^te/([A-Za-z0-9_-]{1,64})/(?:(status)|${MAIN_ENTITY}/twin/([A-Za-z0-9_-]{1,64}))$`);

export class Views implements FleetViews, LinkUser {
  readonly filters = ['te/+/status', `te/+/${MAIN_ENTITY}/twin/+`];
  readonly #views = new Map<string, GatewayView>();
  readonly #listeners = new Set<(view: GatewayView) => void>();
  readonly #counters: Counters;
  readonly #isMember: (gateway: string) => boolean;

  /** `isMember`: of others nothing is looked at. */
  constructor(counters: Counters, isMember: (gateway: string) => boolean = () => true) { [this.#counters, this.#isMember] = [counters, isMember]; }

  get(gateway: string): GatewayView | undefined { return this.#views.get(gateway); }
  all(): Iterable<GatewayView> { return this.#views.values(); }

  listen(listener: (view: GatewayView) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => { this.#listeners.delete(listener); } };
  }

  receive(topic: string, payload: Uint8Array): void {
    const [, id, status, twin = ''] = TOPIC.exec(topic) ?? [];
    if (id === undefined || payload.length === 0) return;
    if (!this.#isMember(id)) return this.#counters.add('views.stranger');
    const before = this.#views.get(id);
    if (!before && this.#views.size >= LIMITS.fleetGatewaysMax) return this.#counters.add('views.full');
    if (status === undefined && !hasRoom(before, twin)) return this.#counters.add('views.full');
    try {
      const view = status === undefined ? withTwin(before ?? { id }, twin, decodeReported(payload).value) : { ...(before ?? { id }), health: healthIn(payload) };
      this.#views.set(id, view);
      for (const listener of this.#listeners) listener(view);
    } catch {
      this.#counters.add('views.malformed');
    }
  }
}

/** One gateway must not fill the memory that all share. */
const hasRoom = (view: GatewayView | undefined, name: string): boolean =>
  !isJsonObject(view?.twin) || Object.hasOwn(view.twin, name) || Object.keys(view.twin).length < LIMITS.gatewayTwinsMax;

function withTwin(view: GatewayView, name: string, value: Json): GatewayView {
  const { twin } = view;
  return { ...view, twin: { ...(isJsonObject(twin) ? twin : {}), [name]: value } };
}

function healthIn(payload: Uint8Array): JsonObject {
  const fault = (why: string): TenzroError => new TenzroError('twin.malformed', `status: ${why}`);
  const value = parseBoundedJson(payload, STATUS_BOUNDS, fault);
  if (!isJsonObject(value)) throw fault('not an object');
  return value;
}
