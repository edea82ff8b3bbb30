#!/bin/bash
# In a fresh root, without systemd, network or TPM: runs an older package, installs this one over it, does the main job as its user with the same chain, installs it again,
# removes, purges. /package.deb is the package, /older.deb the older one.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
data=/var/lib/tenzro-edge
fail() { echo "FAILED: $*"; exit 1; }
fact() { echo "fact $1 $2"; }
as_tenzro() { setpriv --reuid=tenzro --regid=tenzro --init-groups --reset-env "$@"; }
seconds_of() { local from=$EPOCHREALTIME; "$@" >&2; awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }
apt() { apt-get -q -y -o APT::Sandbox::User=root "$@"; }
wait_for() { # what, seconds, command
  local what=$1 end=$((SECONDS + $2)); shift 2
  until "$@"; do ((SECONDS < end)) || { tail -n 20 /tmp/gateway.log || true; fail "no $what"; }; read -r -t 0.5 <> <(:) || true; done
}
groupadd --system gpio # as on a Raspberry Pi; i2c stays missing

start() { as_tenzro sh -c 'cd ~ && TENZRO_SUPERVISED=1 NODE_COMPILE_CACHE=/var/cache/tenzro-edge/code exec tenzro run --scenario workshop' > /tmp/gateway.log 2>&1 & }
ready() { grep -q '"msg":"ready"' /tmp/gateway.log && as_tenzro tenzro status --json | grep -q '"ready":true'; } # the log first: under emulation every command takes long
inferred() { as_tenzro tenzro log --json --kind inference --limit 1 2>/dev/null | grep -q '"index"'; }
of_status() { as_tenzro tenzro status --json | grep -o "\"$1\":\"\?[0-9a-f]*" | head -n 1 | sed 's/.*[:"]//'; } # member of the status, a number or hexadecimal

fact installSeconds "$(seconds_of apt install /older.deb)"
older=$(dpkg-query -W -f '${Version}' tenzro-edge)
start
wait_for 'gateway of the older package' 600 ready
wait_for 'inference of the older package' 300 inferred
chain=$(of_status id)
[ ${#chain} = 64 ] || fail "no chain: $chain"
kill "$(of_status pid)"
wait || fail "the older gateway ended with $?"
size=$(as_tenzro tenzro log --json --limit 1 | sed 's/.*"index":\([0-9]*\).*/\1/')
fact upgradeSeconds "$(seconds_of apt install /package.deb)"
[ "$(dpkg-query -W -f '${Version}' tenzro-edge)" != "$older" ] || fail 'no other version came'
id -nG tenzro | grep -qw gpio || fail 'tenzro is not in gpio'
id -nG tenzro | grep -qw dialout || fail 'tenzro is not in dialout'
[ "$(stat -c '%U:%G %a' $data)" = 'tenzro:tenzro 700' ] || fail "$data is $(stat -c '%U:%G %a' $data)"
dpkg --verify tenzro-edge | grep . && fail 'files are not as packaged'
[ -L /etc/systemd/system/multi-user.target.wants/tenzro-edge.service ] || fail 'the unit is not enabled'
fact installedMib "$(du -sm --apparent-size /opt/tenzro-edge | cut -f1)"

start
started=$SECONDS
wait_for 'gateway' 600 ready
fact readySeconds $((SECONDS - started))
[ "$(of_status id)" = "$chain" ] || fail 'the newer package began another chain'
[ "$(as_tenzro tenzro log --json --limit 1 | sed 's/.*"index":\([0-9]*\).*/\1/')" -gt "$size" ] || fail "the chain did not go on from $size"
fact entriesBefore "$size"
wait_for 'inference' 300 inferred
index=$(as_tenzro tenzro log --json --kind inference --limit 1 | sed 's/.*"index":\([0-9]*\).*/\1/')
as_tenzro tenzro proof "$index" --wait -o /tmp/reading.tzp >&2
tenzro verify /tmp/reading.tzp --policy /opt/tenzro-edge/docs/policies/allow-software.yaml >&2 || fail 'the proof does not verify'
as_tenzro tenzro status >&2
pid=$(of_status pid)
fact rssMib $(($(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status") / 1024))
[ "$(awk '/^Uid/ { print $2 }' "/proc/$pid/status")" = "$(id -u tenzro)" ] || fail 'the gateway does not run as tenzro'
kill "$pid"
wait || fail "the gateway ended with $?"
as_tenzro tenzro fsck >&2 || fail 'fsck'

[ -z "$(find /opt/tenzro-edge -newer /package.deb ! -type d)" ] || fail 'running wrote under /opt'
sum=$(find $data -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
fact reinstallSeconds "$(seconds_of apt install --reinstall /package.deb)"
[ "$sum" = "$(find $data -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)" ] || fail 'an upgrade touched data'

apt remove tenzro-edge >&2
[ ! -e /opt/tenzro-edge ] || fail "left behind: $(find /opt/tenzro-edge | head)"
[ ! -e /usr/bin/tenzro ] || fail '/usr/bin/tenzro is left'
[ "$sum" = "$(find $data -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)" ] || fail 'removal touched data'
apt install /package.deb >&2
as_tenzro tenzro fsck >&2 || fail 'the chain is not whole after removal and installation'
apt purge tenzro-edge >&2
left=$(find / -xdev \( -path /proc -o -path /tmp -o -path /var/log -o -path /var/cache/apt -o -path /var/lib/apt -o -path /usr/share/doc \) -prune -o -name '*tenzro*' -print)
[ -z "$left" ] || fail "left after purge: $left"
getent passwd tenzro && fail 'the user is left'
echo done
