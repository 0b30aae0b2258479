# `make demo` and `make test` do everything a fresh machine needs; see README.md.
WHEELS := $(CURDIR)/data/wheels
export OBSERVATORY_WHEELS ?= $(WHEELS)
export SQLX_OFFLINE := true
CARGO ?= cargo

PROGRAMS := observatory inference-server pipeline-services typeset
PREFIX ?= $(HOME)/.local

.PHONY: help setup build release install demo test ci checks lint fmt docs sqlx sqlx-check clean
.PHONY: chaos check-cuda check-cuda-types bench bench-gpu fuzz miri

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile

setup: ## fetch what the package clients have (idempotent, offline when complete)
	@scripts/timed "set-up" scripts/setup
	@scripts/timed "set-up" scripts/fetch-wheels "$(OBSERVATORY_WHEELS)"
	@scripts/timed "set-up" scripts/setup-python

build: setup ## the programs in the dev profile, which `make demo` and `make test` use; see `release`
	@scripts/timed "programs" $(CARGO) build --workspace --bins

release: setup ## the programs optimised, in target/release
	$(CARGO) build --locked --release $(PROGRAMS:%=--bin %)

install: release ## the optimised programs to PREFIX/bin (default: ~/.local)
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(PROGRAMS:%=target/release/%) "$(DESTDIR)$(PREFIX)/bin"

demo: ## whole stack, simulated portals, pipeline, report
	@scripts/check-data-dir $(DEMO)
	@$(MAKE) --no-print-directory build
	target/debug/observatory demo $(DEMO)

test: build ## every test
	@scripts/timed "set-up" scripts/fetch-vocabularies
	@scripts/timed "tests, compiled" $(CARGO) nextest run --workspace --no-run
	@scripts/timed "tests of the documentation" $(CARGO) test --workspace --doc --quiet
	@scripts/timed "tests" scripts/with-postgres $(CARGO) nextest run --workspace --no-fail-fast

lint: ## format and clippy
	$(CARGO) fmt --all --check
	@scripts/timed "clippy" $(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: ## write the Rust sources in the format that `make lint` asks for
	$(CARGO) fmt --all

docs: ## API documentation
	@RUSTDOCFLAGS="-D warnings" scripts/timed "API documentation" $(CARGO) doc --workspace --no-deps --quiet

sqlx: setup ## write the offline cache of checked queries again
	scripts/sqlx-cache write

sqlx-check: setup ## the cache is that of the queries in the source
	@scripts/timed "cache of queries" scripts/sqlx-cache check

checks: lint docs sqlx-check ## all but the tests; wants the programs built

ci: test checks ## exactly what CI runs

clean: ## remove what was compiled; fetched packages and models in data stay
	$(CARGO) clean

chaos: build ## faults in the middle of runs with 100 kill points instead of the ten of `make test`; no part of ci
	OBSERVATORY_CHAOS=100 $(CARGO) nextest run --package observatory-tests --test e2e -E 'test(chaos::)'

check-cuda-types: ## type-check of the feature cuda in a minute or two, without GPU and toolkit; no part of ci
	scripts/check-cuda-types

check-cuda: ## the inference server with CUDA, built without GPU and toolkit; 15 minutes of processor time, no part of ci
	scripts/check-cuda

bench: ## speed compared with named peers, written to benches/RESULTS.md; 40 minutes after the first build, no part of ci
	benches/run

bench-gpu: ## on a machine with an NVIDIA GPU: equality and speed of the inference server against sentence-transformers
	scripts/bench-gpu

fuzz: ## libFuzzer on the parsers, five minutes for each; wants a nightly compiler and cargo-fuzz, no part of ci
	scripts/fuzz

miri: ## undefined behaviour in the plain paths of the arithmetic; wants a nightly compiler with Miri, no part of ci
	scripts/miri
