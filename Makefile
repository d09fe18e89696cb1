# The thin front: Meson builds, tools/ do the work. `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build
RELEASE := $(BUILD)/release

# Debian's python3 is the one that its python3-pytest belongs to, whatever comes first in PATH.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)

# The flags of this make are not for the programs it starts.
unexport MAKEFLAGS

.PHONY: all check soak demo bench install uninstall clean tidy mutants fuzz help deps-build
.NOTPARALLEL:

all: $(RELEASE)/build.ninja
	@ninja -C $(RELEASE)

deps-build:
	@tools/install-deps build

$(RELEASE)/build.ninja: | deps-build
	@meson setup $(RELEASE) --buildtype=release -Dtests=false --prefix=$(abspath $(PREFIX))

check:
	@tools/install-deps build check
	@$(PYTHON) tools/check

demo: deps-build
	@tools/install-deps build demo
	@$(MAKE) --no-print-directory all
	@tools/demo $(RELEASE)

bench: deps-build
	@tools/install-deps build bench
	@test -e $(BUILD)/bench/build.ninja || \
		meson setup $(BUILD)/bench --buildtype=release -Ddebug=true -Dtests=false -Dbench=true
	@ninja -C $(BUILD)/bench
	@ACCEPT="$(ACCEPT)" $(PYTHON) bench/run --build $(BUILD)/bench --only "$(ONLY)"

soak:
	@tools/install-deps build check
	@$(MAKE) --no-print-directory all
	@DROVER_SOAK=1 DROVER_BUILD=$(RELEASE) $(PYTHON) -m pytest -q -s -p no:cacheprovider -m soak tests/e2e

install: all
	@meson configure $(RELEASE) --prefix=$(abspath $(PREFIX))
	@DESTDIR=$(DESTDIR) meson install -C $(RELEASE) --quiet
	@echo "installed below $(DESTDIR)$(abspath $(PREFIX))"

uninstall: $(RELEASE)/build.ninja
	@meson configure $(RELEASE) --prefix=$(abspath $(PREFIX))
	@$(PYTHON) tools/uninstall $(RELEASE) "$(DESTDIR)"

tidy:
	@$(PYTHON) tools/tidy

mutants:
	@tools/install-deps build check
	@tools/mutants

fuzz:
	@tools/install-deps build check
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-300} $(PYTHON) tools/check --only fuzz

clean:
	rm -rf $(BUILD)

help:
	@echo "make            builds drover in $(RELEASE) (installs missing Debian packages first)"
	@echo "make demo       runs drover over its own repository: examples/maintenance.yaml"
	@echo "make check      builds with sanitizers and runs every test; state of its own below $(BUILD)/"
	@echo "make soak       the long forms of some tests, with a release build: 100,000 tasks, every allocation failing,"
	@echo "                2,500 worktrees (CYCLES=) beside a foreign gc, kill -9 at every call of drover-worktree"
	@echo "make bench      measures drover against its peers: bench/RESULTS.md; ONLY=P5 one of them"
	@echo "make install    PREFIX=$(PREFIX) DESTDIR= ; make uninstall takes it away again"
	@echo "make tidy       checks layers, bans, headers; make mutants, make fuzz: the slower tests of the tests"
	@echo "make clean      removes $(BUILD)/"
