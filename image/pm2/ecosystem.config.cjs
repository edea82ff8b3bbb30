/**
 * For pm2, where there is no systemd: `pm2 start /opt/tenzro-edge/ecosystem.config.cjs`, or `pm2-runtime` as the first process of a container, as the user who
 * owns the data. The rules are those of tenzro-edge.service.
 */
module.exports = {
  apps: [{
    name: 'tenzro-edge',
    script: 'tenzro', // from PATH
    args: 'run',
    interpreter: 'none',
    exec_mode: 'fork',
    env: { TENZRO_SUPERVISED: '1' },
    // However it ended (75 asks for it), it is started again: after half a second, then more slowly up to pm2's 15 s, without end.
    autorestart: true,
    exp_backoff_restart_delay: 500,
    max_restarts: Number.MAX_SAFE_INTEGER,
    // Draining takes up to 5 s, a last block with a slow TPM up to 10 s; the emulator must not be stopped before that block.
    kill_timeout: 30_000,
    treekill: false,
    // No max_memory_restart: pm2 counts mapped pages of the datachain, which the kernel takes back whenever it needs them. Limit the container.
    // No files that grow: `pm2 logs` and pm2-runtime show what comes; the gateway keeps what must last in its datachain.
    out_file: '/dev/null',
    error_file: '/dev/null',
    watch: false,
  }],
};
