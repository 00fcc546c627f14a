#!/usr/bin/env bash
# The whole test: installs what it needs (as root, on Debian), checks, tests,
# and ends with a plain list of what could not run. With CI set, a missing tool
# is a failure.
set -uo pipefail
cd "$(dirname "$0")/../.."
GO=${GO:-go}
step() { printf '\n== %s\n' "$*"; }

# program → Debian package that brings it
declare -A needs=(
  [chromium]=chromium
  [/usr/bin/protoc]=protobuf-compiler
  [qemu-arm-static]=qemu-user-static
  [mbpoll]=mbpoll
  [cc]=gcc
  [ip]=iproute2
  [ss]=iproute2
)
packages=()
missing() {
  for program in "${!needs[@]}"; do
    command -v "$program" >/dev/null || echo "$program"
  done
  # libraries have no program to look for
  [ -e /usr/include/modbus/modbus.h ] || echo libmodbus-dev
  # Debian's own Python: the first python3 in the path may be another one,
  # that does not see Debian's packages
  /usr/bin/python3 -c 'import google.protobuf' 2>/dev/null || echo python3-protobuf
  [ -e /usr/lib/python3/dist-packages/pymodbus ] || echo python3-pymodbus
}
for m in $(missing); do packages+=("${needs[$m]:-$m}"); done
if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  step "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -qy --no-install-recommends "${packages[@]}"; } >/tmp/penstock-apt.log 2>&1 ||
    { echo "apt-get failed:"; tail -n 20 /tmp/penstock-apt.log; }
fi
absent=$(missing)
if [ -n "$absent" ] && [ -n "${CI:-}" ]; then
  echo "missing tools, and CI is set: $absent" >&2
  exit 1
fi

failed=()
run() { # NAME COMMAND...
  step "$1"
  shift
  "$@" || failed+=("$*")
}

run "build for this machine and for ARM" make --no-print-directory build build-arm build-arm64
run "lint" make --no-print-directory lint
log=$(mktemp)
trap 'rm -f "$log"' EXIT
step "test"
$GO test -timeout 20m -v ./... >"$log" 2>&1
status=$?
grep -E '^(ok|FAIL|---  ?FAIL|panic:|\?)' "$log" | grep -v 'no test files'
if [ $status -ne 0 ]; then
  failed+=("$GO test ./...")
  step "what failed"
  grep -vE '^(=== (RUN|PAUSE|CONT|NAME)|--- PASS|\s+--- PASS|\?|ok|PASS)' "$log" | tail -n 300
fi
run "race" $GO test -race -timeout 15m -short ./fieldbus/... ./uplink/... ./certs/... ./backend/... ./internal/gateway/... ./internal/local/...

step "could not run"
skipped=$(grep -A1 -E '^\s*--- SKIP' "$log" | grep -vE '^--$' || true)
if [ -n "$skipped$absent" ]; then
  [ -n "$absent" ] && echo "missing tools: $absent (Debian: ${packages[*]})"
  [ -n "$skipped" ] && echo "$skipped"
  if [ -n "${CI:-}" ] && [ -n "$skipped" ]; then
    failed+=("a skipped test, and CI is set")
  fi
else
  echo "nothing: everything ran"
fi

pass=$(grep -cE '^--- PASS' "$log")
fail=$(grep -cE '^--- FAIL' "$log")
if [ ${#failed[@]} -gt 0 ]; then
  step "failed"
  printf '%s\n' "${failed[@]}"
  [ "$fail" -gt 0 ] || fail=1
fi
printf '\n%d passed, %d failed\n' "$pass" "$fail"
[ ${#failed[@]} -eq 0 ]
