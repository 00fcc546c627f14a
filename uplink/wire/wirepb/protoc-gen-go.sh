#!/bin/sh
# protoc's plug-in at the version that internal/tools pins.
exec go tool -modfile="$(dirname "$0")/../../../internal/tools/go.mod" protoc-gen-go
