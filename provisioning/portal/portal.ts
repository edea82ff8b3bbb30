/**
 * When a gateway without an owner opens an access point, and what becomes of a network that is handed over there. One radio does one thing: INVARIANT: the
 * access point is open in the phase `open` only, and a network is on trial in `trying` only. Pure.
 */

/** What was handed over last, and what became of it. */
export interface Outcome {
  /** As people read it. */
  readonly network: string;
  /** Undefined: it works, and is kept. */
  readonly reason: string | undefined;
}

export type PortalPhase =
  /** Somebody owns the gateway, or it has a network. */
  | { readonly kind: 'off' }
  | { readonly kind: 'waiting'; readonly untilMs: number }
  /** Until then, and as long as somebody looks at the page; without a time where no other network is known that could come back. */
  | { readonly kind: 'open'; readonly untilMs: number | undefined }
  | { readonly kind: 'trying'; readonly network: string };

export interface PortalState {
  readonly phase: PortalPhase;
  readonly last: Outcome | undefined;
}

/** owned: also where nobody shall own it · busy: a claim is under way, or it is not known yet who owns it. */
export type Ownership = 'free' | 'busy' | 'owned';

export type PortalInput =
  | { readonly kind: 'look'; readonly nowMs: number; readonly ownership: Ownership; readonly hasNetwork: boolean; readonly isUsed: boolean }
  /** `isKnown`: the machine knows networks that may come into reach. */
  | { readonly kind: 'opened'; readonly nowMs: number; readonly isKnown: boolean }
  | { readonly kind: 'notOpened'; readonly nowMs: number }
  /** Something else took the radio: a claim's trial, a restart of wpa_supplicant. */
  | { readonly kind: 'lost'; readonly nowMs: number }
  | { readonly kind: 'handed'; readonly network: string }
  | { readonly kind: 'tried'; readonly nowMs: number; readonly reason: string | undefined };

export type PortalEffect = 'open' | 'close' | 'try';

export interface PortalTimes {
  /** Without a network, before the access point opens. */
  readonly waitMs: number;
  /** Open before known networks get another chance. */
  readonly openMs: number;
}

export interface Step {
  readonly state: PortalState;
  readonly effects: readonly PortalEffect[];
}

export const CLOSED: PortalState = { phase: { kind: 'off' }, last: undefined };

/** What does not fit the phase changes nothing. */
export function step(state: PortalState, input: PortalInput, { waitMs, openMs }: PortalTimes): Step {
  const { phase, last } = state;
  const to = (next: PortalPhase, ...effects: readonly PortalEffect[]): Step => ({ state: { phase: next, last }, effects });
  const waiting = (nowMs: number): PortalPhase => ({ kind: 'waiting', untilMs: nowMs + waitMs });
  switch (input.kind) {
    case 'look': return looked(state, input, to, waiting);
    case 'opened': return phase.kind === 'open' ? to({ kind: 'open', untilMs: input.isKnown ? input.nowMs + openMs : undefined }) : to(phase);
    case 'notOpened': return phase.kind === 'open' ? to(waiting(input.nowMs)) : to(phase);
    case 'lost': return phase.kind === 'open' ? to(waiting(input.nowMs), 'close') : to(phase);
    case 'handed': return phase.kind === 'open' ? to({ kind: 'trying', network: input.network }, 'try') : to(phase);
    case 'tried': {
      if (phase.kind !== 'trying') return to(phase);
      const outcome = { network: phase.network, reason: input.reason };
      // Back at the next look, which knows whose the gateway is by now.
      return { state: { phase: input.reason === undefined ? { kind: 'off' } : { kind: 'waiting', untilMs: input.nowMs }, last: outcome }, effects: [] };
    }
  }
}

type To = (next: PortalPhase, ...effects: readonly PortalEffect[]) => Step;

function looked({ phase }: PortalState, { nowMs, ownership, hasNetwork, isUsed }: Extract<PortalInput, { kind: 'look' }>, to: To, waiting: (nowMs: number) => PortalPhase): Step {
  if (ownership === 'busy' || phase.kind === 'trying') return to(phase);
  const isWanted = ownership === 'free' && !hasNetwork;
  if (!isWanted) return phase.kind === 'open' ? to({ kind: 'off' }, 'close') : to({ kind: 'off' });
  switch (phase.kind) {
    case 'off': return to(waiting(nowMs));
    case 'waiting': return nowMs < phase.untilMs ? to(phase) : to({ kind: 'open', untilMs: undefined }, 'open');
    case 'open': return phase.untilMs !== undefined && nowMs >= phase.untilMs && !isUsed ? to(waiting(nowMs), 'close') : to(phase);
  }
}
