/** Commands and what became of them, in words: who, what, how it ended. Pure; the caller makes it printable. */
import type { EntryView, Json } from './entryView.ts';

/** Undefined for entries of other kinds. */
export function commandWords({ kind, body }: Pick<EntryView, 'kind' | 'body'>): string | undefined {
  if ((kind !== 'command' && kind !== 'result') || typeof body !== 'object' || body === null || Array.isArray(body)) return undefined;
  const fields = body as Readonly<Record<string, Json>>;
  const text = (name: string): string => { const value = fields[name]; return typeof value === 'string' ? value : ''; };
  const what = `${text('type')}/${text('id')}`;
  const by = text('operator') === '' ? '' : ` by ${text('operator')} (key ${text('kid')})`;
  if (kind === 'command') return `${what}${by}: ${asked(text('message'))}`;
  const outcome = text('code') === '' ? text('result') : `${text('code')}: ${text('reason')}`;
  const count = typeof fields['count'] === 'number' && fields['count'] > 1 ? `, ${fields['count']} messages` : '';
  return `${what}${by} ${text('state')}${count}${outcome === '' ? '' : `: ${outcome}`}`;
}

/** What is asked for beyond the type; the whole message where it is no JSON. */
function asked(message: string): string {
  try {
    const { parameters = {}, dry_run: isDryRun, urgent: isUrgent, not_before: notBefore } = JSON.parse(message) as Readonly<Record<string, Json>>;
    const marks = [isDryRun === true ? 'dry run' : '', isUrgent === true ? 'urgent' : '', typeof notBefore === 'number' ? `not before ${new Date(notBefore * 1_000).toISOString()}` : ''].filter((mark) => mark !== '');
    return `${JSON.stringify(parameters)}${marks.length === 0 ? '' : `, ${marks.join(', ')}`}`;
  } catch {
    return message;
  }
}
