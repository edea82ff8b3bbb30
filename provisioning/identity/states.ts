/**
 * The life of the gateway's keys, as data: `step` says what follows from what was seen, and what to do next; `keeper.ts` does it. One effect is
 * under way at a time, and each ends in exactly one input.
 *
 *   idle ─wanted─▶ looking ─▶ creating ─────────────▶ open
 *                     ├─────▶ opening (file) ───────▶ open
 *                     └─────▶ identifying ─▶ comparing ─▶ unsealing ─▶ open
 *   any of them ─refused─▶ locked ─wanted─▶ looking: whatever was mended opens the keys without a restart
 */
import { TenzroError, type ErrorCode } from '#runtime/core/errors.ts';

/** `tpm`: sealed to boot state and revocation counter. `file`: only the file's mode protects them. */
export type Protection = 'tpm' | 'file';

export type LockCode = Extract<ErrorCode, `identity.${string}`>;

export type IdentityState =
  | { readonly at: 'idle' | 'looking' | 'creating' | 'opening' | 'identifying' | 'comparing' | 'unsealing' }
  | { readonly at: 'open'; readonly protection: Protection }
  | { readonly at: 'locked'; readonly code: LockCode; readonly detail: string };

export type Input =
  /** Somebody needs the keys. */
  | { readonly saw: 'wanted' }
  /** `look`. `legacy`: only the seed file of the first release is there. */
  | { readonly saw: 'files'; readonly found: 'nothing' | 'legacy' | Protection; readonly chainHasBegun: boolean }
  /** `identify`. */
  | { readonly saw: 'tpm'; readonly is: 'ours' | 'cleared' | 'foreign' | 'missing'; readonly detail: string }
  /** `compare`: an approval fits. */
  | { readonly saw: 'approval' }
  /** `create`, `openFile` or `unseal`. */
  | { readonly saw: 'keys'; readonly protection: Protection }
  /** Any effect. */
  | { readonly saw: 'refused'; readonly code: LockCode; readonly detail: string };

/** What to do next; `rest`: nothing. */
export type Effect = 'rest' | 'look' | 'create' | 'migrate' | 'openFile' | 'identify' | 'compare' | 'unseal';

export interface Step {
  readonly state: IdentityState;
  readonly effect: Effect;
}

const locked = (code: LockCode, detail: string): Step => ({ state: { at: 'locked', code, detail }, effect: 'rest' });

/** Throws `core.invariant` for an input that the state does not await. */
export function step(state: IdentityState, input: Input): Step {
  if (input.saw === 'refused' && state.at !== 'idle' && state.at !== 'open' && state.at !== 'locked') return locked(input.code, input.detail);
  switch (state.at) {
    case 'idle': case 'locked':
      if (input.saw === 'wanted') return { state: { at: 'looking' }, effect: 'look' };
      break;
    case 'looking':
      if (input.saw === 'files') return afterLook(input);
      break;
    case 'identifying':
      if (input.saw === 'tpm') return afterIdentify(input);
      break;
    case 'comparing':
      if (input.saw === 'approval') return { state: { at: 'unsealing' }, effect: 'unseal' };
      break;
    case 'creating': case 'opening': case 'unsealing':
      if (input.saw === 'keys') return { state: { at: 'open', protection: input.protection }, effect: 'rest' };
      break;
    case 'open':
      if (input.saw === 'wanted') return { state, effect: 'rest' };
      break;
  }
  throw new TenzroError('core.invariant', `an identity that is ${state.at} does not await ${input.saw}`);
}

function afterLook({ found, chainHasBegun }: Extract<Input, { saw: 'files' }>): Step {
  switch (found) {
    case 'nothing': return chainHasBegun ? locked('identity.missing', 'there is a chain and no identity') : { state: { at: 'creating' }, effect: 'create' };
    case 'legacy': return { state: { at: 'creating' }, effect: 'migrate' };
    case 'file': return { state: { at: 'opening' }, effect: 'openFile' };
    case 'tpm': return { state: { at: 'identifying' }, effect: 'identify' };
  }
}

function afterIdentify({ is, detail }: Extract<Input, { saw: 'tpm' }>): Step {
  switch (is) {
    case 'ours': return { state: { at: 'comparing' }, effect: 'compare' };
    case 'cleared': return locked('identity.tpm_cleared', detail);
    case 'foreign': return locked('identity.tpm_foreign', detail);
    case 'missing': return locked('identity.tpm_missing', detail);
  }
}
