#!/bin/bash
# Second program of the virtual machine: runs the steps in /out/steps (a line each: name, tab, command), leaves what they print in /out/<name>.log and
# how they ended in /out/ended (name, exit status, milliseconds), and switches off.
set -uo pipefail
export HOME=/root TERM=dumb CI=true PATH="$PROJECT/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
cd "$PROJECT"
rm -f /out/ended
while IFS=$'\t' read -r name command; do
  echo "── $name"
  started=${EPOCHREALTIME/./}
  eval "$command" </dev/null 2>&1 | tee "/out/$name.log"
  code=${PIPESTATUS[0]}
  printf '%s\t%s\t%s\n' "$name" "$code" "$(((${EPOCHREALTIME/./} - started) / 1000))" >>/out/ended
done </out/steps
echo o >/proc/sysrq-trigger
read -r _ </dev/zero # until it is off
