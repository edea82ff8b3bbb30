/**
 * A unix socket in a service's own folder, for the folder's owner only (0600). Where the folder's path is too long for a socket, it lies in a private folder
 * elsewhere and a pointer file names it. One that a killed service left behind is replaced; beside a living one nobody else listens.
 */
import { chmod, mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export interface OwnSocket extends AsyncDisposable {
  readonly path: string;
}

/** unix(7): sun_path is 108 bytes with its NUL. */
const SOCKET_PATH_BYTES_MAX = 107;
const OWNER_ONLY = 0o600;
const socketName = (name: string): string => `${name}.sock`;
const pointerName = (name: string): string => `${name}.path`;

/** `name`: without extension, [a-z]. Throws what `taken` makes of the path where somebody listens already, else the error of the system. */
export async function listenInFolder(server: Server, folder: string, { name, taken }: { readonly name: string; readonly taken: (path: string) => Error }): Promise<OwnSocket> {
  const old = await placeOf(folder, name);
  if (await isAnswered(old)) throw taken(old);
  await removeFiles(folder, name, old);
  const path = await choosePlace(folder, name);
  await new Promise<void>((resolve, reject) => { server.once('error', reject).listen(path, resolve); });
  await chmod(path, OWNER_ONLY);
  return {
    path,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => { server.close(() => { resolve(); }); });
      await removeFiles(folder, name, path);
    },
  };
}

/** Path of the socket where somebody listens on it; undefined where nobody does. */
export async function answeredSocket(folder: string, name: string): Promise<string | undefined> {
  const path = await placeOf(folder, name);
  return (await isAnswered(path)) ? path : undefined;
}

async function choosePlace(folder: string, name: string): Promise<string> {
  const own = join(folder, socketName(name));
  if (Buffer.byteLength(own) <= SOCKET_PATH_BYTES_MAX) return own;
  const path = join(await mkdtemp(join(process.env['XDG_RUNTIME_DIR'] ?? tmpdir(), 'tenzro-')), socketName(name));
  await writeFile(join(folder, pointerName(name)), path, { mode: OWNER_ONLY });
  return path;
}

/** Where the socket is, whether or not anybody listens. */
async function placeOf(folder: string, name: string): Promise<string> {
  try {
    const pointed = await readFile(join(folder, pointerName(name)), 'utf8');
    // Only a path of the form that we write is followed: what it names may be removed.
    if (/\/tenzro-[A-Za-z0-9]{6}\/[a-z]+\.sock$/.test(pointed) && pointed.endsWith(`/${socketName(name)}`)) return pointed;
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
  }
  return join(folder, socketName(name));
}

async function removeFiles(folder: string, name: string, path: string): Promise<void> {
  await rm(path, { force: true });
  if (dirname(path) === folder) return;
  await rm(join(folder, pointerName(name)), { force: true });
  await rmdir(dirname(path)).catch((error: unknown) => { if (codeOf(error) !== 'ENOENT') throw error; });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) { resolve(false); return; }
    const socket = connect(path);
    socket.once('connect', () => { socket.destroy(); resolve(true); });
    // Refused or absent: nobody listens. Forbidden or overloaded: somebody does.
    socket.once('error', (error) => { resolve(codeOf(error) === 'EACCES' || codeOf(error) === 'EAGAIN'); });
  });
}

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;
