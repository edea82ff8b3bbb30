/** Loads one model package and runs it once, in a process of its own: a graph that brings ONNX Runtime down brings nothing else down. Says `loaded`, or code and message of why not. */
import { loadPackage } from '#models/package.ts';
import { openSession } from '#models/session.ts';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';

const [modelsDir = '', name = '', runtimeDir = ''] = process.argv.slice(2);
try {
  const session = await openSession(await loadPackage(modelsDir, name), runtimeDir);
  await session[Symbol.asyncDispose]();
  process.stdout.write('loaded');
} catch (error) {
  process.stdout.write(`${error instanceof TenzroError ? error.code : 'model.invalid'}\n${messageOf(error)}`);
}
