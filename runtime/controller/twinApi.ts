/** What the command line may ask of the twins. */
import { TenzroError } from '#runtime/core/errors.ts';
import type { JsonObject } from '#runtime/core/json.ts';
import type { Api } from './api.ts';
import type { TwinDesk } from './twinDesk.ts';

export function twinApi(desk: TwinDesk): Api {
  return {
    'twins.list': async () => ({ twins: desk.list() }),
    'twins.show': async (parameters) => desk.show(textOf(parameters, 'gateway'), textOf(parameters, 'name')),
    /** Says each report, and how it ended, where `wait` asks for it. */
    'twins.set': async (parameters, { emit, signal }) => {
      const [gateway, name] = [textOf(parameters, 'gateway'), textOf(parameters, 'name')];
      const version = await desk.set(gateway, name, Buffer.from(textOf(parameters, 'message'), 'utf8'), { despiteConflict: parameters['despiteConflict'] === true });
      if (parameters['wait'] !== true) return { version, reported: null };
      const reported = await desk.ended(gateway, name, version, { onReport: (report) => { emit({ ...report }); }, signal });
      return { version, reported: reported ? { ...reported } : null };
    },
  };
}

function textOf(parameters: JsonObject, key: string): string {
  const value = parameters[key];
  if (typeof value !== 'string' || value === '') throw new TenzroError('controller.request', `${key} is missing`);
  return value;
}
