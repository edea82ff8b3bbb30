#!/usr/bin/env node
// Plain JavaScript that old Nodes parse too: it only looks at the version, then hands over to tenzro.ts.
import { existsSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';

const NODE_MAJOR_MIN = 24;

if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  const pinned = existsSync(fileURLToPath(new URL('../../node_modules/.bin/node', import.meta.url)));
  const advice = pinned
    ? 'call it as "npx tenzro …" or "npm start" in its folder: both use the Node that npm brought'
    : 'run "npm ci" in its folder, which brings the right Node, then "npx tenzro …" or "npm start"; or install Node 24';
  console.error(`tenzro: this is Node ${process.version}, Tenzro Edge needs Node ${NODE_MAJOR_MIN} or newer: ${advice}. (core.node_version)`);
  process.exitCode = 2;
} else {
  // Three threads share a small board's cores: helper threads of the collector get in their way (measured: 10–20 % of the rate).
  setFlagsFromString('--single-threaded-gc');
  // Beside the code and not in /tmp, where others could plant code. Through the environment, because threads look for it only there.
  process.env.NODE_COMPILE_CACHE = process.env.NODE_COMPILE_CACHE || fileURLToPath(new URL('../../node_modules/.cache/tenzro', import.meta.url));
  module.enableCompileCache(process.env.NODE_COMPILE_CACHE);
  process.env.ORT_DISABLE_TELEMETRY = '1'; // read by ONNX Runtime when it is loaded; a thread could not set it for native code
  const { main } = await import('./tenzro.ts');
  process.exitCode = await main(process.argv.slice(2));
}
