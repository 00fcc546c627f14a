# Penstock. `make` alone says what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
GO ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
PROGRAMS := penstock penstock-cloud penstock-lab
FUZZTIME ?= 30s

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## a living plant on this machine: pumps, gateway, backend, one URL
	@bin/penstock-lab demo $(ARGS)

.PHONY: build
build: ## the programs for this machine, in bin/
	@for p in $(PROGRAMS); do $(BUILD) -o bin/$$p ./cmd/$$p || exit 1; done

.PHONY: build-arm
build-arm: ## the firmware for 32-bit ARM (ARMv7), in bin/arm/
	@GOOS=linux GOARCH=arm GOARM=7 $(BUILD) -o bin/arm/penstock ./cmd/penstock

.PHONY: build-arm64
build-arm64: ## the firmware for 64-bit ARM, in bin/arm64/
	@GOOS=linux GOARCH=arm64 $(BUILD) -o bin/arm64/penstock ./cmd/penstock

.PHONY: test
test: ## everything: installs what it needs when root, then checks and tests
	@GO='$(GO)' ./internal/tools/test.sh

.PHONY: lint
lint: ## gofmt, vet and golangci-lint with the reasons in .golangci.yml
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	@$(GO) vet ./...
	@cd internal/tools && $(GO) build -o $(CURDIR)/bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@bin/golangci-lint run ./...

.PHONY: bench
bench: ## measure: make bench NAME=footprint (NAME=list names them)
	@$(GO) run ./cmd/penstock-lab bench $(or $(NAME),list) $(ARGS)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

.PHONY: generate
generate: ## the protobuf code and the list of linked dependencies
	@$(GO) generate ./...

.PHONY: clean
clean: ## remove what was built
	@rm -rf bin
