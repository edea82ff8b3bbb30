/** Composition root of the program that systemd runs as root when the gateway asks for something: keeps the application's folders, answers, ends. */
import { folderPaths } from '#drivers/slots/folderPaths.ts';
import { FolderKeeper } from '#drivers/slots/folderKeeper.ts';
import { messageOf } from '#runtime/core/errors.ts';
import { printable } from '#runtime/core/printable.ts';
import { compatibleOf } from '#runtime/crypto/appBundle.ts';
import { compareVersions } from '#runtime/update/version.ts';

/** Nothing that is made here is written by others. */
process.umask(0o022);
const keeper = new FolderKeeper({ paths: folderPaths(process.env['TENZRO_ROOT']), compatible: compatibleOf(process.arch), compare: compareVersions, owner: process.geteuid?.() ?? 0 });
try {
  const result = await keeper.serve();
  process.stdout.write(`${printable((result ?? 'nobody asked for anything').trim())}\n`);
} catch (error) {
  process.stderr.write(`the folders of the application: ${printable(messageOf(error))}\n`);
  process.exitCode = 1;
}
