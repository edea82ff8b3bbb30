/** What becomes of a code that is shown: the words as soon as somebody has confirmed it, and the end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DeviceStore } from '#provisioning/claim/deviceStore.ts';
import { SHOWN_LIFETIME_MS, type Moment } from '#provisioning/claim/waiting.ts';
import { TenzroError } from '#runtime/core/errors.ts';
import { LIMITS } from '#runtime/core/limits.ts';
import { printable } from '#runtime/core/printable.ts';
import { readStatus } from '#runtime/observe/control.ts';
import { EXIT, type Io } from './io.ts';

const POLL_MS = 500;

/** A code for a gateway that takes none would only mislead. Throws `claim.claimed`, `claim.locked`, `claim.state`, `claim.newer_version`. */
export async function checkClaimable(dataDir: string, { boot }: Moment): Promise<void> {
  const record = await new DeviceStore(dataDir).read();
  if (record?.owner) throw new TenzroError('claim.claimed', `this gateway has an owner (words of its claim: ${record.owner.words})`);
  if (record && record.failures.boot === boot && record.failures.count >= LIMITS.claimFailuresMax) throw new TenzroError('claim.locked', 'no code is taken until power is cycled');
}

/** Until the gateway is owned, the code's time is over, or the reader ends it; the code waits on without us. */
export async function watchClaim(io: Io, dataDir: string, isPrinted: boolean): Promise<void> {
  io.catchSignals();
  const isOver = AbortSignal.any([io.signal, ...(isPrinted ? [] : [AbortSignal.timeout(SHOWN_LIFETIME_MS)])]);
  const said = new Set<string>();
  const say = (line: string): void => {
    if (said.has(line)) return;
    said.add(line);
    io.line(line);
  };
  while (!isOver.aborted) {
    const status = await readStatus(dataDir);
    if (status.kind === 'none') say('the gateway does not run: start it, it takes the code then');
    else {
      const { state, words, code, detail } = status.value.claim;
      if (state === 'owned') return io.line(io.paint(`claimed: ${words ?? ''}`, 'green'));
      if (words !== null) say(`somebody has confirmed the code; the operator must see the same words:  ${io.paint(words, 'bold')}`);
      if (code !== null) say(io.paint(`${code}: ${printable(detail ?? '')}`, 'yellow'));
      if (state === 'locked') throw new TenzroError('claim.locked', 'no code is taken until power is cycled');
      if (state === 'waiting') say('waiting to be claimed; Ctrl-C ends the wait, not the code');
    }
    await sleep(POLL_MS, undefined, { signal: isOver }).catch(() => undefined); // over: the loop ends
  }
  if (io.signal.aborted) return;
  io.line('nobody has used the code: it is worth nothing any more');
  io.exitCode = EXIT.problem;
}
