# A thin front of Meson and Ninja; `make help` lists what it does. `make`, `make demo` and
# `make test` each see to it that the packages they need are installed (tools/setup).
BUILD   ?= build
PREFIX  ?=
DESTDIR ?=
JOBS    ?= 2
# Options for tools/test, for instance: make test TEST_ARGS="--only unit --match pool"
TEST_ARGS ?=
# Options for tools/bench, for instance: make bench BENCH_ARGS=--quick
BENCH_ARGS ?=

NINJA := ninja -j $(JOBS)
export PREFIX DESTDIR

.PHONY: all setup build test test-doctor test-interop demo bench install uninstall format lint symbols clean help
all: build

setup:
	@tools/setup build

build: setup
	@tools/configure plain "$(BUILD)" >/dev/null
	@$(NINJA) -C "$(BUILD)"

test:
	@tools/setup test
	@tools/test -j $(JOBS) $(TEST_ARGS)

# The doctor against live programs, in several languages as far as they are installed. Takes minutes.
test-doctor: build
	@tests/doctor/run --build "$(BUILD)"

# https with real servers, started on loopback and stopped again. `make test` runs it too, with those that are there.
test-interop: build
	@tools/setup interop || echo "test-interop: going on with the servers that are there" >&2
	@for test in certificates exchanges reload servers; do IL_BUILD="$(BUILD)" tests/interop/$$test.py || exit 1; done

demo: build
	@"$(BUILD)/interloop" reproduce

bench:
	@BUILD="$(BUILD)" tools/bench $(BENCH_ARGS)

# Without DESTDIR and as root the dynamic linker is told about the new library.
install: build
	@meson install -C "$(BUILD)" --no-rebuild --quiet $(if $(DESTDIR),--destdir "$$(realpath -m -- "$(DESTDIR)")")
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

# Removes what the last `make install` of this build directory put in place.
uninstall:
	@$(NINJA) -C "$(BUILD)" --quiet uninstall

format:
	@tools/format

lint:
	@tools/setup test
	@tools/test -j $(JOBS) --only lint

# After adding or removing a public function: bring src/il.map in line with the headers.
symbols:
	@tools/symbols --write

clean:
	rm -rf "$(BUILD)" build-test build-asan build-tsan

help:
	@echo "make             build the library and build/interloop"
	@echo "make test        build and run every test, three builds, the last line is the total"
	@echo "make test-doctor the doctor against live programs; takes minutes"
	@echo "make test-interop  https with nginx, apache2 and others, which it installs and runs on loopback"
	@echo "make demo        the matrix of causes and solutions over real sockets"
	@echo "make bench       the benchmarks, half an hour; BENCH_ARGS=--quick a minute"
	@echo "make install     install under PREFIX (default /usr/local); DESTDIR is honoured"
	@echo "make uninstall   remove what make install put in place"
	@echo "make format      format the sources; make lint checks that and the house rules"
	@echo "make symbols     bring src/il.map in line with the public headers"
	@echo "make clean       remove the build directories"
	@echo "Variables: BUILD=dir PREFIX=dir DESTDIR=dir JOBS=n TEST_ARGS='...' (tools/test --help)"
