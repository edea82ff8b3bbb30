/** What the log of acts says of commands that were handed in together: a signature for each would cost more than all else that is done with them. Pure. */
import { ACT_TEXT_MAX, type Act } from './actsCodec.ts';
import { keyOf, type DeskRecord } from './deskRecord.ts';

const WHAT = 'command.submitted';

/** One act for each command to one gateway; those with one type, id and signer to many are told together, their gateways in as few acts as name them all. */
export function submissionActs(records: readonly DeskRecord[]): readonly Act[] {
  const groups = Map.groupBy(records, ({ kid, type, id }) => `${kid}/${type}/${id}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (!first) return [];
    const { kid: who, type, id } = first;
    if (group.length === 1) return [{ who, what: WHAT, about: keyOf(first) }];
    return linesOf(group.map(({ gateway }) => gateway)).map((detail) => ({ who, what: WHAT, about: `${type}/${id}`, detail }));
  });
}

/** Words with a space between them, none broken or cut. */
function linesOf(words: readonly string[]): readonly string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > ACT_TEXT_MAX.detail) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
