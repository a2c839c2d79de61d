# What to type. Each target installs what it needs and does not find (Debian, as root); nothing else touches the system.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TRIPLE := $(shell rustc --version --verbose | sed -n 's/^host: //p')
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

# The tests, the lab and the benchmark run the programs that were built for release, found through this.
export SELVEDGE_BIN_DIR := $(TARGET_DIR)/$(TRIPLE)/release

# Programs that call the plugin as real runtimes do: unpacked or built here, and found by the tests through this.
export SELVEDGE_CLIENTS_DIR := $(TARGET_DIR)/clients

# Kubernetes' programs, a person's own or built here: found by the tests, which run in folders of their own.
export override SELVEDGE_CACHE := $(abspath $(or $(SELVEDGE_CACHE),$(HOME)/.cache/selvedge))
ifneq ($(KUBE_BIN),)
export override KUBE_BIN := $(abspath $(KUBE_BIN))
endif

# With --target the flags reach only our programs, not build scripts and procedural macros, which cannot be static.
# Relative relocations are packed: it makes the plugin 50 kB smaller.
RELEASE := RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" cargo build --locked --release --target $(TRIPLE)
PROGRAMS := --bin selvedge --bin selvedge-agent --bin selvedge-tunnel --bin selvedgectl

## lab: a three-node cluster on this machine, probed on every path (ARGS="--attach bridge" passes flags on)
.PHONY: lab
lab: build
	"$$SELVEDGE_BIN_DIR/selvedgectl" lab run $(ARGS)

## build: the static release programs: selvedge, selvedge-agent, selvedge-tunnel, selvedgectl
.PHONY: build
build: compiler
	$(RELEASE) $(PROGRAMS)

## test: every test (TEST="-p selvedge-ipam" runs a part)
.PHONY: test
test: build oracles clients
	cargo test --locked --no-fail-fast $(or $(TEST),--workspace)

## conformance: asks ours and the reference plugins what the protocol demands, and writes docs/conformance.md
.PHONY: conformance
conformance: build oracles
	SELVEDGE_WRITE=1 cargo test --locked --package selvedge-tests --test conformance statements::

# Always for the whole workspace: for one crate alone, what that is made of has other features and is built once more.
## check: format, lints, documentation, the layers, licences
.PHONY: check
check: compiler
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --test kubernetes --test scale -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cargo test --locked --workspace --test layers
	if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "make: cargo-deny is not installed: licences and sources are not checked"; fi

## kubernetes: a real cluster on this machine, Selvedge installed in it (FAST=1: the tutorials' table; TEST=e2e: one)
.PHONY: kubernetes
# The end-to-end suite runs where nobody asked for something else.
E2E = $(if $(TEST),$(findstring e2e,$(TEST)),$(if $(FAST),,e2e))
kubernetes: image oracles
	@.ci/need $(if $(E2E),curl:curl nc.openbsd:netcat-openbsd)
	@$(if $(FAST),,tests/clients/get/helm.sh "$$SELVEDGE_CLIENTS_DIR")
	tests/kubernetes/get.sh "$$SELVEDGE_CACHE/kubernetes-1.20.2" $(E2E)
	SELVEDGE_IMAGE="$(TARGET_DIR)/selvedge-image.tar" cargo test --locked --package selvedge-tests --test kubernetes \
		-- --nocapture --test-threads 1 $(or $(TEST),$(and $(FAST),tutorial))

## kernels: plugin, agent and lab on Debian's kernels 6.1, 6.12 and 7.2 in qemu, to docs/kernels.md (KERNEL=6.12: on one; JOBS=lab: those with that in their names)
.PHONY: kernels
kernels: build oracles
	tests/kernels/get.sh "$$SELVEDGE_CLIENTS_DIR/kernels" $(or $(KERNEL),6.1 6.12 7.2)
	cargo test --locked --package selvedge-tests --test conformance --test scenarios --no-run
	cargo test --locked --package selvedge-wireguard --no-run
	KERNEL="$(KERNEL)" JOBS="$(JOBS)" $(if $(JOBS),,SELVEDGE_WRITE=1) cargo test --locked --package selvedge-tests --test kernels -- --ignored --nocapture

## image: the container image, as an archive for `ctr images import`, `docker load` and `kind load image-archive`
.PHONY: image
image: build
	@deploy/image.sh "$$SELVEDGE_BIN_DIR" "$(TARGET_DIR)/selvedge-image.tar"

## manifests: renders deploy/selvedge.yaml and deploy/selvedge-uninstall.yaml from the Helm chart
.PHONY: manifests
manifests: clients
	@deploy/render.sh "$(or $(HELM),$(SELVEDGE_CLIENTS_DIR)/helm/helm)" deploy

## bench: times against bridge + host-local, of policies and transports (ARGS="--parts control,packets": these), to docs/benchmarks.md; then `make scale`
.PHONY: bench
bench: build oracles reference
	@.ci/need ipset:ipset wireguard-go:wireguard-go wg:wireguard-tools
	$(RELEASE) --package selvedge-bench
	"$$SELVEDGE_BIN_DIR/selvedge-bench" --programs "$$SELVEDGE_BIN_DIR" --reference "$(REFERENCE)" \
		--table docs/benchmarks.md $(ARGS)
	$(MAKE) scale

## scale: an agent among 5,000 nodes and 50,000 pods, and writes docs/scale.md; SCALE_SECONDS=600 for ten minutes
.PHONY: scale
scale: build
	SCALE_PAGE="$(CURDIR)/docs/scale.md" cargo test --locked --package selvedge-tests --test scale -- --nocapture

## soak: a storm of calls and kills on the plugin for ten minutes (FOR=600 seconds), 6,000 random clusters' packets, 1,000 pods
.PHONY: soak
soak: build oracles
	SELVEDGE_STORM_SECONDS=$(or $(FOR),600) cargo test --locked --package selvedge-tests --test crash -- storm --test-threads 1
	SELVEDGE_POLICY_SEED=$$(date +%s) SELVEDGE_POLICY_CLUSTERS=$$((10 * $(or $(FOR),600))) \
		cargo test --locked --package selvedge-tests --test policy -- random --nocapture
	SELVEDGE_FIRST_PODS=1000 cargo test --locked --package selvedge-tests --test scenarios -- policy::no_pod --nocapture

## fuzz: searches for bytes that a reader can't take, a minute for each reader (FOR=10 seconds)
.PHONY: fuzz
fuzz: compiler
	@.ci/need c++:g++
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for reader in fuzz/corpus/*; do \
		found="$(TARGET_DIR)/fuzz/$${reader##*/}"; mkdir -p "$$found"; \
		$(SEARCH) cargo fuzz run --features search --sanitizer none "$${reader##*/}" "$$found" "$$reader" \
			-- -max_total_time=$(or $(FOR),60) -verbosity=0 -print_final_stats=1; \
	done
# Needs no nightly compiler: the readers are safe code, which an address sanitizer could tell nothing of.
SEARCH := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=2 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

## clean: removes everything that was built
.PHONY: clean
clean:
	cargo clean

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' Makefile | awk -F ': ' '{ printf "  make %-11s %s\n", $$1, substr($$0, length($$1) + 3) }'

# --- what the targets above need ---

# A linker, and the C library to link statically.
.PHONY: compiler
compiler:
	@.ci/need cc:gcc libc.a:libc6-dev

# Programs that the tests hold against ours, or need; the benchmark makes its nodes' uplinks with ip.
.PHONY: oracles
oracles:
	@.ci/need nft:nftables iptables:iptables ip:iproute2 strace:strace openssl:openssl /usr/lib/cni/host-local:containernetworking-plugins

# The runtimes and tools that drive the plugin. Where one can't be had, its tests say so.
.PHONY: clients
clients:
	@for prepare in tests/clients/get/*.sh; do "$$prepare" "$$SELVEDGE_CLIENTS_DIR"; done
	@tests/kernels/get.sh "$$SELVEDGE_CLIENTS_DIR/kernels" 6.12 || \
		echo "make: no kernel could be unpacked: its test is skipped" >&2

# The CNI plugins that the benchmark compares with, unpacked in the build directory and not installed.
REFERENCE := $(TARGET_DIR)/bench/reference
.PHONY: reference
reference:
	@bench/reference.sh "$(REFERENCE)"
