/** Frames of a camera, until one shows a claim code: rpicam-still on a Raspberry Pi, else ffmpeg on a V4L2 device. Pictures stay in memory. */
import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { TenzroError, messageOf } from '#runtime/core/errors.ts';
import { claimCodeOn } from './photo.ts';

const FRAME_MS = 15_000;
const FRAME_BYTES_MAX = 32 * 1024 * 1024;
/** So that a camera that answers at once leaves the machine room. */
const PAUSE_MS = 200;

interface FrameSource {
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
}

const RPICAM: FrameSource = { name: 'rpicam-still', file: 'rpicam-still', args: ['--nopreview', '--immediate', '--encoding', 'png', '--width', '1640', '--height', '1232', '--output', '-'] };
/** The fifth frame: by then exposure has settled. */
const ffmpegOn = (device: string): FrameSource => ({
  name: `ffmpeg on ${device}`, file: 'ffmpeg',
  args: ['-hide_banner', '-loglevel', 'error', '-f', 'v4l2', '-i', device, '-vf', 'select=gte(n\\,4)', '-frames:v', '1', '-f', 'image2pipe', '-c:v', 'png', '-'],
});

/** The text of the first claim code that a camera sees. Throws `claim.camera` where none gives a picture; `onFrame` hears why a picture shows no code. */
export async function claimCodeByCamera(onFrame: (why: string) => void, signal: AbortSignal, kind?: RegExp): Promise<string> {
  const source = await workingSource(signal);
  for (;;) {
    const picture = await frameOf(source, signal);
    try {
      return await claimCodeOn(picture, kind);
    } catch (error) {
      if (!(error instanceof TenzroError) || error.code !== 'claim.no_code') throw error;
      onFrame(error.message);
    }
    await sleep(PAUSE_MS, undefined, { signal });
  }
}

/** The first that gives a picture. */
async function workingSource(signal: AbortSignal): Promise<FrameSource> {
  const faults: string[] = [];
  const devices = (await readdir('/dev')).filter((name) => /^video\d+$/.test(name)).toSorted((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
  for (const source of [RPICAM, ...devices.map((name) => ffmpegOn(`/dev/${name}`))]) {
    try {
      await frameOf(source, signal);
      return source;
    } catch (error) {
      if (signal.aborted) throw error;
      faults.push(messageOf(error));
    }
  }
  throw new TenzroError('claim.camera', `${faults.join('; ')}${devices.length === 0 ? '; there is no /dev/video*' : ''}`);
}

/** PNG. */
async function frameOf({ name, file, args }: FrameSource, signal: AbortSignal): Promise<Buffer> {
  try {
    const { stdout } = await promisify(execFile)(file, [...args], { encoding: 'buffer', maxBuffer: FRAME_BYTES_MAX, timeout: FRAME_MS, signal });
    if (stdout.length > 0) return stdout;
  } catch (cause) {
    throw new TenzroError('claim.camera', `${name}: ${isMissing(cause) ? 'not installed' : messageOf(cause).split('\n').at(-1) ?? ''}`, { cause });
  }
  throw new TenzroError('claim.camera', `${name}: no picture`);
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';
