# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CLUSTER := tests/cluster/weir-cluster
# An existing cluster (kind among them) instead of our own node: make demo KUBE_CONTEXT=<context of your kubeconfig>
KUBE_CONTEXT ?=
DEMO := cargo run --locked --quiet -p weir-tests --bin weir-demo --
DEMO_FLAGS := $(if $(KUBE_CONTEXT),--kube-context $(KUBE_CONTEXT))

.PHONY: demo demo-check demo-down test test-unit test-bundles test-cases bench-operator test-cluster test-e2e lint generated components images cluster-up cluster-down toolchain help

demo: toolchain ## Bring up a control plane, install Weir, serve a model, show a move to the cloud and back; stays up
	$(DEMO) $(DEMO_FLAGS)

demo-check: toolchain ## The same, then tear it down; the exit status tells
	$(DEMO) --check $(DEMO_FLAGS)

demo-down: ## Remove the demo and prove that nothing of it is left
ifdef KUBE_CONTEXT
	$(DEMO) --down $(DEMO_FLAGS)
else
	$(CLUSTER) down --name demo
	$(CLUSTER) check-clean
endif

test: ## Every test, the quickest first
	@# Tests leave processors idle at times; what the next ones need is built meanwhile.
	$(MAKE) --jobs 2 test-unit components
	$(MAKE) --jobs 2 test-cluster images
	$(MAKE) test-e2e

test-unit: toolchain ## Unit and property tests of every crate
	cargo test --locked --workspace --exclude weir-operator
	@# Its tests on the simulated API server wait far more than they work.
	cargo test --locked --package weir-operator -- --test-threads 8

BUNDLES ?=
test-bundles: toolchain ## Replays of recorded prices and traffic, which are no part of the repository: make test-bundles BUNDLES=<folder>
	WEIR_BACKTEST_BUNDLES="$(abspath $(BUNDLES))" cargo test --locked -p weir-backtest --features bundles --test bundles

CASES ?=
test-cases: toolchain ## Inputs of public bug reports, which are no part of the repository: make test-cases CASES=<folder>
	WEIR_CASES="$(abspath $(CASES))" cargo test --locked -p kubectl-weir --features cases --test cases

bench-operator: toolchain ## How the operator fares with 10,000 workloads; other sizes by ARGS="--workloads 1000"
	cargo run --locked --release -p weir-operator --example bench -- $(ARGS)

test-cluster: toolchain ## Tests of what tests stand on: the cluster, the simulated API server against the real one, fake nodes
	tests/cluster/selftest.py
	cargo test --locked -p weir-tests --features e2e --test conformance --test fake_nodes -- --nocapture

test-e2e: toolchain ## End-to-end scenarios on a real control plane
	@# They wait more than they work. Each thread has a cluster of its own, so their number does not follow the machine's.
	cargo test --locked -p weir-tests --features e2e --test e2e -- --test-threads=2 --show-output
	@# They leave which of the chart's rights were used.
	cargo test --locked -p weir-chart --features rights --test rights

lint: toolchain generated ## Formatting, clippy, generated files, the chart, syntax of scripts
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p weir-tests --features e2e --all-targets -- -D warnings
	cargo clippy --locked -p weir-chart --features rights --all-targets -- -D warnings
	cargo clippy --locked -p weir-gateway --no-default-features --all-targets -- -D warnings
	"$$($(CLUSTER) clients helm)" lint --strict --quiet charts/weir
	workspace-hack/check.py
	bash -n .ci/run
	python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' $(CLUSTER) tests/cluster/*.py tests/cluster/harness/*.py

generated: toolchain ## Fail if the committed CRDs are not what the types say
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
	&& cargo run --locked --quiet -p weir-crds --bin weir-crdgen -- "$$folder" >/dev/null \
	&& diff -ru crds/yaml "$$folder" && diff -ru charts/weir/files/crds "$$folder"

components: ## Build and fetch what a cluster needs, unless the cache has it
	nice -n 19 $(CLUSTER) build

images: toolchain ## Build the images as archives, without docker, and print them
	nice -n 19 $(CLUSTER) images

cluster-up: ## Start a bare cluster; prints how to reach it
	$(CLUSTER) up

cluster-down: ## Remove it
	$(CLUSTER) down

toolchain:
	@command -v cargo >/dev/null || { echo "cargo is not on PATH: install Rust from https://rustup.rs (rust-toolchain.toml names the version)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "cc is not on PATH: Rust links with it (Debian: apt-get install gcc libc6-dev)" >&2; exit 1; }

help:
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
