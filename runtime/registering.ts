/** The composition root of who is in a fleet: joins the register, the intake of chains, the fleet's policy and the log of acts. */
import { setTimeout as delay } from 'node:timers/promises';
import { toHex } from '#runtime/core/bytes.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { Acts, CONTROLLER } from '#runtime/controller/acts.ts';
import type { Chains } from '#runtime/controller/chains.ts';
import { filesOf } from '#runtime/controller/house.ts';
import { Intake } from '#runtime/controller/intake.ts';
import { IntakeUser } from '#runtime/controller/intakeUser.ts';
import type { ControllerPart, PartContext } from '#runtime/controller/part.ts';
import { Refused, type RefusalBook } from '#runtime/controller/refusals.ts';
import { Register } from '#runtime/controller/register.ts';
import { registerApi } from '#runtime/controller/registerApi.ts';
import { Standings, type PolicyInForce } from '#runtime/controller/standings.ts';
import { checkIncrement, isSignedByGenesis } from '#runtime/verify/increment.ts';
import { DEFAULT_POLICY } from '#runtime/verify/policy.ts';
import { judgeStanding } from '#runtime/verify/standing.ts';
import { PolicyFile } from './policyFile.ts';

export interface RegisterOptions {
  readonly chains: Chains;
  /** Chains of anybody whom the broker lets in are taken; the register is for those who were claimed all the same. */
  readonly isOpen: boolean;
}

export interface Registry {
  readonly acts: Acts;
  /** Also says whom a broker admits. */
  readonly register: Register;
  readonly refused: RefusalBook;
  readonly part: ControllerPart;
  /** Names are those of `tenzro fleet status --json`. */
  readonly facts: () => JsonObject;
}

/** Throws `ledger.corrupt`, `controller.key`, `policy.invalid`. */
export function openRegistry(context: PartContext, { chains, isOpen }: RegisterOptions): Registry {
  const { dir, house: { signer }, store, clock, counters, log } = context;
  const acts = new Acts(store, signer, clock);
  const register = new Register(store, acts, clock);
  const file = new PolicyFile({ path: filesOf(dir).policy, ekRootsPath: undefined, otherwise: DEFAULT_POLICY }, { log, counters, invalid: 'controller.policy_invalid' });
  const standings = new Standings(store, acts, () => inForce(file, register));
  const refused = new Refused(acts, clock);
  const intake = new Intake({ ...context, chains, signer, acts, refused, standings, judge: { judge: checkIncrement, isSignedByGenesis }, ...(isOpen ? {} : { register }) });
  const user = new IntakeUser(intake, context);
  const follow = async (signal: AbortSignal): Promise<void> => {
    await acts.record({ who: CONTROLLER, what: 'controller.started', about: context.house.name, detail: `${register.size} gateways, ${chains.size} chains${isOpen ? ', open to all' : ''}` });
    await Promise.all([user.follow(signal), judgeAgain(signal)]);
    await acts.record({ who: CONTROLLER, what: 'controller.stopped', about: context.house.name });
  };
  const judgeAgain = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      const renewed = await standings.renew(chains, signal);
      if (renewed > 0) log.info({ chains: renewed }, 'judged again, by another policy');
      await delay(LIMITS.policyPollMs, undefined, { signal }).catch(() => undefined); // stopping
    }
  };
  const facts = (): JsonObject => ({ policy: toHex(file.current().digest), isOpen, gateways: register.size, frozen: register.all().filter(({ frozen }) => frozen).map(({ name }) => name), short: standings.short, acts: acts.count });
  return { acts, register, refused, facts, part: { users: user.users, api: registerApi({ register, chains, acts, store }), follow } };
}

/** Whom the fleet claimed it enrolled itself: an owner signed that, and the register checked it. */
function inForce(file: PolicyFile, register: Register): PolicyInForce {
  const { policy, digest } = file.current();
  return {
    digest: toHex(digest), shortfall: policy.shortfall,
    judge: (gateway, input) => {
      const { tpm, statement } = register.get(gateway) ?? {};
      return judgeStanding(input, tpm && statement ? { ...policy, enrolled: [...policy.enrolled, tpm] } : policy);
    },
  };
}
