# Each target is explained by the text after its ##; `make` prints them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
# Two targets at once would fight for the same cores and mix their output.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

MODULE := github.com/connectd/connectd
# Modules of their own, so that what they need stays out of the root's go.mod.
NESTED := $(sort $(patsubst %/go.mod,%,$(shell find . -mindepth 2 -name go.mod -not -path '*/node_modules/*' -not -path './tools/*')))
TOOL := go tool -modfile=$(CURDIR)/tools/go.mod
# The benchmark program, one of them: what it compares with is heavier than the rest.
BENCH := cmd/connectd-bench

# Packages to test; `make race PKG=./cache/...` narrows it.
PKG ?= ./...
# Tests start real Consul agents, so more packages at once than cores only makes them slow.
TESTFLAGS ?= -p 2 -timeout 20m
FUZZTIME ?= 30s
BENCHTIME ?= 1s
PLATFORMS := linux/arm64 darwin/arm64
# What decides: a mistake here lets somebody in.
MUTATED := table.go,match.go,normalize.go,request.go,id.go,narrows.go
# `make mutate MUTATEFLAGS='-only judge'` tries those alone whose line has the word.
MUTATEFLAGS ?=

# The stream has to reach the summary whole, whatever a tool says with its exit status;
# pipefail and the summary decide together.
SUMMARY := go run ./internal/tools/testsummary -trim $(MODULE)

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## compile the programs into bin/
	@mkdir -p bin
	go build -trimpath -o bin/ ./cmd/...
	go -C $(BENCH) build -trimpath -o $(CURDIR)/bin/ .

.PHONY: dev
dev: ## run the daemon on the development authority: no Consul, no root
	@mkdir -p bin
	go build -trimpath -o bin/ ./cmd/connectd
	bin/connectd dev

.PHONY: test
test: lint cross consul fuzz race ## everything that CI runs: lint, cross, consul, fuzz, then all tests

.PHONY: race
race: strace ## the Go tests alone, with the race detector
	@status=0; { \
	  go test -json -race $(TESTFLAGS) $(PKG) || status=1; \
	  for dir in $(NESTED); do go -C $$dir test -json -race $(TESTFLAGS) ./... || status=1; done; \
	  exit $$status; } | $(SUMMARY)

.PHONY: durability
durability: strace ## the store under kills, power loss, damage and disk errors, in the counts that we promise; minutes
	@CONNECTD_DURABILITY=1 go test -count=1 -v -timeout 20m ./store \
	  -run '^Test(Killed|PowerLoss|PowerLossControl|FailedSyncIsNotRepeated|Corruption|DiskErrors|NoKeyInClear|KeyMatrix)$$' \
	  | grep -v -e '^=== ' -e '^ *--- PASS: .*/' -e ': moment '

.PHONY: strace
strace: ## install strace, which injects faults into system calls, where it is missing
	@command -v strace >/dev/null || .ci/install-strace

.PHONY: lint
lint: ## gofmt, go vet and staticcheck, nested modules included
	@unformatted=$$(gofmt -s -l .); \
	if [ -n "$$unformatted" ]; then printf 'gofmt -s -w %s\n' $$unformatted; exit 1; fi
	go vet ./...
	$(TOOL) staticcheck ./...
	@for dir in $(NESTED); do \
	  echo "$$dir: build, vet, staticcheck"; \
	  ( cd $$dir; go build -o /dev/null ./...; go vet ./...; $(TOOL) staticcheck ./... ); \
	done

.PHONY: cross
cross: ## compile for the other platforms that we name
	@for platform in $(PLATFORMS); do \
	  echo "$$platform: build"; \
	  for dir in . $(BENCH); do \
	    GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 go -C $$dir build -o /dev/null ./...; \
	  done; \
	done

.PHONY: consul
consul: ## compile the Consul that tests run; minutes the first time, cached after
	go run ./cache/consul/consultest/buildconsul

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@targets=$$(go test -list '^Fuzz' $(PKG) | awk '/^Fuzz/ { names[n++] = $$1 } \
	  $$1 == "ok" { for (i = 0; i < n; i++) print $$2 "#" names[i]; n = 0 }'); \
	if [ -z "$$targets" ]; then echo "no fuzz target found"; exit 1; fi; \
	for target in $$targets; do \
	  echo "$${target%#*} $${target#*#}"; \
	  ./internal/tools/fuzz.sh "$${target%#*}" "$${target#*#}" $(FUZZTIME); \
	done

.PHONY: bench
bench: build ## Go benchmarks, then the figures that the README publishes
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(TESTFLAGS) ./...
	bin/connectd-bench authorize --consul "$$(go run ./cache/consul/consultest/buildconsul)"
	bin/connectd-bench decide

.PHONY: vectors
vectors: ## replay the decision vectors: every test with Vector in its name
	@go test -json -count=1 $(TESTFLAGS) -run Vector ./... | $(SUMMARY)

.PHONY: mutate
mutate: ## change the engine in small ways and tell which changes no test notices; minutes
	go run ./internal/tools/mutate -dir intentions -files $(MUTATED) -flags '-rapid.seed=1 -rapid.nofailfile' \
	  -accepted intentions/testdata/accepted-mutants.txt $(MUTATEFLAGS)

.PHONY: admission
admission: ## the tests of who is admitted, with their full counts; as root, minutes
	CONNECTD_TEST_FULL=1 go test -count=1 -v -timeout 30m -run 'Admission|Front|PIDReuse$$|Hostile|Passed|Limits|Peer' ./socketapi ./daemon

.PHONY: docs
docs: ## execute and check the documentation: every test with Docs in its name
	@go test -json -count=1 $(TESTFLAGS) -run Docs ./... | $(SUMMARY)

.PHONY: all
all: build test ## compile everything and run everything except fuzz, bench and mutate

.PHONY: clean
clean: ## remove what make wrote
	rm -rf bin .cache
