# SPDX-License-Identifier: Apache-2.0
# Everything one does with this repository. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

GO      ?= go
VERSION ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)

# What `make run` passes on to fleetprof, such as ARGS='--retention 24h'.
ARGS ?=
# What `make bench` and `make fuzz` run: BENCH=Maps, FUZZTIME=10s.
BENCH    ?= .
FUZZTIME ?= 60s
# The day that `make load` simulates.
AGENTS ?= 100
HOURS  ?= 24
# What `make test-vm` boots: KERNELS='5.10-amd64 6.1-arm64'; all if empty.
KERNELS  ?=

# Debian packages. The compiler's version is pinned: the committed BPF objects
# are its output, byte for byte.
GENERATE_PACKAGES := clang-16 llvm-16 libbpf-dev linux-libc-dev
TEST_PACKAGES     := gcc g++ libc6-dev libc6-dbg musl-tools libclang-rt-16-dev binutils bpftool curl linux-perf chromium nodejs openjdk-17-jdk-headless nginx-light openssl libgnutls28-dev procps python3 xz-utils dwz $(GENERATE_PACKAGES)
BENCH_PACKAGES    := gcc libc6-dev bpftrace linux-perf chromium nodejs nginx-light clang-16
VM_PACKAGES       := qemu-system-x86 qemu-system-arm cpio gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross

# Docker's own containerd.io, where it is installed, must not be replaced.
ifeq (,$(shell command -v containerd))
TEST_PACKAGES += containerd runc
endif

as_root := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## One static binary, ./fleetprof; needs Go only
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o fleetprof ./cmd/fleetprof

.PHONY: run
run: build ## Build, then start agent, store and web page, as root
	@if [[ -n "$(as_root)" ]] && ! command -v sudo >/dev/null; then \
		echo 'fleetprof needs root to load BPF programs: say `make run` as root, or install sudo.' >&2; \
		exit 1; \
	fi
	@exec $(as_root) ./fleetprof run $(ARGS)

.PHONY: generate
generate: generate-packages ## Compile the BPF programs and their Go side anew
	$(GO) generate ./bpf

.PHONY: check-generate
check-generate: generate-packages ## Prove that what generate would write is what is committed
	@copy=$$(mktemp -d); \
	trap 'rm -rf "$$copy"' EXIT; \
	cp -r go.mod go.sum bpf "$$copy"; \
	(cd "$$copy" && $(GO) generate ./bpf) >"$$copy/log" 2>&1 || { cat "$$copy/log" >&2; exit 1; }; \
	diff -rq bpf "$$copy/bpf" || { echo 'bpf: generated files differ: run `make generate` and commit.' >&2; exit 1; }

.PHONY: fmt
fmt: ## Format the Go code
	gofmt -w .

# Programs for the repository, which are no part of the product.
OUTSIDE := ./.ci/vm ./.ci/vm/init ./.ci/load

.PHONY: lint
lint: ## Format, vet, staticcheck, and the rules of the house
	@unformatted=$$(gofmt -l .); \
	[[ -z "$$unformatted" ]] || { echo "not formatted, run \`make fmt\`: $$unformatted" >&2; exit 1; }
	$(GO) vet ./... $(OUTSIDE)
	$(GO) tool staticcheck ./... $(OUTSIDE)
	$(GO) test -count=1 .

# Packages whose tests measure the machine run alone. Those of pure ones, and of the page in its browser, have
# nothing to race, and take up to five times as long with the detector.
MEASURING := ./bpf ./profiler
PURE      := ./profiler/unwind ./profiler/goruntime ./symbolize/dwarfsym ./attribute/rpc/http2 ./reshape ./server/web

.PHONY: test
test: test-packages test-tracefs lint check-generate test-load ## Lint and all tests, after installing what they need
	$(GO) test -count=1 -timeout 20m ./cmd/fleetprof # runs the program as it is built for users
	$(GO) test -race -count=1 -p 1 $(MEASURING)
	$(GO) test -count=1 -p 2 $(PURE)
	$(GO) test -race -count=1 -p 2 ./.ci/load $$($(GO) list ./... | grep -vxE '$(subst $() ,|,$(patsubst ./%,.*/%,$(MEASURING) $(PURE) ./cmd/fleetprof))')

# The oldest kernel and the newest, of one architecture each. The machines are emulated on amd64 only.
KERNEL_ENDS := 5.10-amd64 newest-arm64

.PHONY: test-load
ifeq ($(shell uname -m),x86_64)
test-load: vm-packages ## Load the BPF programs on the oldest kernel and the newest; make test-vm does far more
	$(GO) run ./.ci/vm -kernels '$(KERNEL_ENDS)' ./bpf
else
test-load: ; @echo 'test-load needs an amd64 machine: the BPF programs are loaded on this kernel only'
endif

.PHONY: test-root
test-root: test-packages test-tracefs ## All tests as root, so that none is skipped for want of rights
	$(GO) test -count=1 $(if $(as_root),-exec '$(as_root) --preserve-env=PATH,HOME',) ./...

.PHONY: test-every
test-every: test-packages ## Stacks at every instruction of every kind of program; Go programs of every version there is on the machine
	$(GO) test -count=1 -timeout 30m ./profiler/unwind ./profiler/goruntime -every

# What must hold on every kernel: whatever reads what a kernel makes.
VM_TESTS := ./bpf ./profiler ./attribute/container ./symbolize/kernel ./internal/procfs

.PHONY: test-vm
test-vm: vm-packages ## The tests that depend on the kernel, on those of docs/kernels.md; KERNELS='6.1-arm64 …'
	$(GO) vet ./.ci/vm ./.ci/vm/init
	$(GO) test -count=1 ./.ci/vm
	$(GO) run ./.ci/vm -kernels '$(KERNELS)' $(VM_TESTS)

.PHONY: bench
bench: bench-packages test-tracefs ## All benchmarks, one after the other; BENCH=regexp
	$(GO) test -p 1 -run '^$$' -bench '$(BENCH)' \
		$$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n 1 dirname | sort -u)

.PHONY: load
load: ## A simulated fleet against the server: 100 agents, 1,000 at once, a day (hours; HOURS=1 AGENTS=10 for less)
	$(GO) run ./.ci/load steady
	$(GO) run ./.ci/load at-once
	$(GO) run ./.ci/load day -agents '$(AGENTS)' -hours '$(HOURS)'

.PHONY: fuzz
fuzz: ## Each fuzz test for FUZZTIME (60s)
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sort | while IFS=: read -r file name; do \
		echo "$${file%/*} $${name#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime '$(FUZZTIME)' -fuzzminimizetime 20x "$${file%/*}"; \
	done

.PHONY: test-tracefs
test-tracefs:
	@.ci/tracefs

.PHONY: generate-packages test-packages bench-packages vm-packages
generate-packages:
	@.ci/install $(GENERATE_PACKAGES)
test-packages:
	@.ci/install $(TEST_PACKAGES)
bench-packages:
	@.ci/install $(BENCH_PACKAGES)
vm-packages:
	@.ci/install $(VM_PACKAGES)
