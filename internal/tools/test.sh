#!/usr/bin/env bash
# The whole test: installs what it needs (as root, on Debian), checks, tests,
# and ends with a plain list of what could not run. With CI set, a missing tool
# is a failure.
set -uo pipefail
cd "$(dirname "$0")/../.."
GO=${GO:-go}
step() { printf '\n== %s\n' "$*"; }

# Each Debian package that the tests use, and how to tell that it is there.
needs() {
  cat <<'END'
chromium           command -v chromium
fonts-dejavu-core  test -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
gcc                command -v cc
iproute2           command -v ip && command -v ss
libmodbus-dev      test -e /usr/include/modbus/modbus.h
mbpoll             command -v mbpoll
protobuf-compiler  test -x /usr/bin/protoc
python3-protobuf   /usr/bin/python3 -c 'import google.protobuf'
python3-pymodbus   /usr/bin/python3 -c 'import pymodbus'
qemu-user-static   command -v qemu-arm-static
END
}
missing() {
  needs | while read -r package check; do
    bash -c "$check" >/dev/null 2>&1 </dev/null || echo "$package"
  done
}
packages=$(missing)
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  step "installing" $packages
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  { apt-get update -q && apt-get install -qy --no-install-recommends $packages; } >/tmp/penstock-apt.log 2>&1 ||
    { echo "apt-get failed:"; tail -n 20 /tmp/penstock-apt.log; }
fi
absent=$(missing)
if [ -n "$absent" ] && [ -n "${CI:-}" ]; then
  echo "missing tools, and CI is set: Debian packages" $absent >&2
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
  [ -n "$absent" ] && echo "missing Debian packages:" $absent
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
