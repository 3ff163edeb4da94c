# A thin front for CMake and the scripts in tools/. `make` lists what there is.
# Variables: WERROR=ON (warnings are errors), JOBS=N, PREFIX, DESTDIR.

WERROR ?= OFF
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
BIN     = build/release/bin

export JOBS WERROR

.PHONY: help deps deps-test deps-bench build test demo bench bench-quick sim soak hostile fuzz fuzz-smoke interop format format-check tidy \
        check-layers install deb deb-test clean

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='|' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

deps: ## installs what building needs and is missing (Debian, as root)
	@tools/install-deps build

deps-test:
	@tools/install-deps test

build: deps ## builds clymqd, clymq and clymq-sim into build/release/bin
	@tools/build release programs

test: deps-test ## runs every test of the CI; the last line counts them
	@tools/run-tests

demo: build ## shows the queue at work: corpus in, kill -9, corpus out
	@tools/demo

bench: deps ## measures the queue and this machine's limits (half an hour)
	@tools/build release benchmarks
	@bench/run

bench-quick: deps ## the same in two minutes, to look at
	@tools/build release benchmarks
	@bench/run --quick

deps-bench: ## installs what make bench compares with: NATS and Redis
	@tools/install-deps bench

sim: build ## runs the simulator over SEEDS (default 1-200)
	@tools/sim

soak: build deps-test ## runs load and kills for MINUTES (default 30)
	@tools/soak

hostile: build deps-test ## attacks the broker with hostile clients for MINUTES (default 10)
	@tools/hostile

fuzz: deps-test ## fuzzes each decoder for SECONDS_EACH (300), again and again
	@tools/fuzz

fuzz-smoke: deps-test ## fuzzes each decoder for a few seconds
	@tools/fuzz-smoke

interop: build ## runs foreign clients (Go, Node, Java, Python, C++, c_glib) against clymqd; skips what is missing
	@tools/install-deps interop || true
	@CLYMQ_BIN=$(BIN) /usr/bin/python3 tests/interop/run.py

format: ## formats all sources in place
	@tools/lint format

format-check: ## says which sources are not formatted
	@tools/lint format-check

tidy: build deps-test ## runs clang-tidy over all sources
	@tools/lint tidy

check-layers: ## checks which folder includes which
	@tools/check-layers

install: build ## installs into DESTDIR and PREFIX (default /usr/local)
	cmake --install build/release --prefix "$(PREFIX)"

deb: deps ## builds Debian packages into build/deb
	@tools/make-deb

deb-test: deb ## installs, runs, removes and purges them in a bare root (as root)
	@tools/deb-test

clean: ## removes build/
	rm -rf build
