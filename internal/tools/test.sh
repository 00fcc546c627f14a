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
e2fsprogs          command -v mke2fs && command -v debugfs
fonts-dejavu-core  test -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
curl               command -v curl
gcc                command -v cc
iproute2           command -v ip && command -v ss
libmodbus-dev      test -e /usr/include/modbus/modbus.h
mbpoll             command -v mbpoll
mosquitto          test -x /usr/sbin/mosquitto
openssl            command -v openssl
librsvg2-bin       command -v rsvg-convert
protobuf-compiler  test -x /usr/bin/protoc
python3-protobuf   /usr/bin/python3 -c 'import google.protobuf'
python3-pymodbus   /usr/bin/python3 -c 'import pymodbus'
python3-serial     /usr/bin/python3 -c 'import serial'
python3-serial-asyncio /usr/bin/python3 -c 'import serial_asyncio'
qemu-user-static   command -v qemu-arm-static
swtpm              command -v swtpm
tpm2-openssl       test -e "$(openssl version -m | cut -d'"' -f2)/tpm2.so"
tpm2-tools         command -v tpm2_createprimary && command -v tpm2_print
zbar-tools         command -v zbarimg
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
reporter=$(mktemp -d)/report
trap 'rm -rf "$(dirname "$reporter")"' EXIT
run "the reporter of tests" bash -c "cd internal/tools && '$GO' test ./report && '$GO' build -o '$reporter' ./report"
race() { # the parts; the whole plant, which -short leaves out, is a matter of processes
  "$GO" test -json -race -short -timeout 20m "$@" | "$reporter"
}
tests() {
  "$GO" test -json -timeout 30m "$@" | "$reporter" ${CI:+-no-skips}
}
run "race" race ./fieldbus/... ./uplink/... ./certs/... ./backend/... ./internal/gateway/... ./internal/local/...
run "test" tests ./...

if [ -n "$absent" ]; then
  step "could not run for want of Debian packages"
  echo "$absent"
fi
if [ ${#failed[@]} -gt 0 ]; then
  step "failed"
  printf '%s\n' "${failed[@]}"
  exit 1
fi
