# One entry point per verb; `make help` lists them. A second run does only what has changed.
#
# Variables: PYTHON (an interpreter >= 3.10), DATA (a dataset for the demo), JOBS, PYTEST_ARGS.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
CXX ?= g++
PYTHON ?=
DATA ?=
PYTEST_ARGS ?=

# cmake, ninja and the linters of the virtual environment come before the system's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

# Modules are found by name: one that is new or moved is known after the next build.
PYTHON_ROOMS := $(shell find e2eio -type d -not -name __pycache__ 2>/dev/null)
CPP_SOURCES := CMakeLists.txt $(shell find cmake cpp -type f 2>/dev/null)
CPP_LINTED = $(shell find cpp/e2eio cpp/bind -name '*.cpp')
CPP_FORMATTED = $(shell find cpp tests/cpp benchmarks/kernels -name '*.cpp' -o -name '*.hpp')
# Where scikit-build-core builds the extension; its compile commands cover the core and the binding.
EXTENSION_BUILD = $(dir $(firstword $(wildcard build/*/CMakeInit.txt)))

# Bash functions: which system packages are missing, and to install them if that can be done without asking.
define SYSTEM
missing=()
has_header() { echo "#include <$$1>" | $(CXX) -std=c++20 -x c++ -E - >/dev/null 2>&1; }
need_header() { has_header "$$1" || missing+=("$$2"); }
need_command() { command -v "$$1" >/dev/null || missing+=("$$2"); }
install_missing() {
  (( $${#missing[@]} )) || return 0
  local sudo=()
  [[ $$(id -u) == 0 ]] || sudo=(sudo -n)
  if command -v apt-get >/dev/null && "$${sudo[@]}" true 2>/dev/null; then
    echo "== installing system packages: $${missing[*]}"
    "$${sudo[@]}" apt-get update -qq
    "$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$${missing[@]}" >/dev/null
    missing=()
  else
    echo "missing system packages; install them and run make again:" >&2
    echo "  apt-get install $${missing[*]}" >&2
    exit 1
  fi
}
find_python() {
  local candidate
  for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10; do
    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$$candidate"
      return
    fi
  done
}
endef

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: venv
venv: $(VENV)/.tools ## make .venv with the build tools

$(VENV)/.created:
	@$(SYSTEM)
	echo "== looking for a compiler, libzstd and Python >= 3.10"
	need_command g++ g++
	install_missing
	need_header zstd.h libzstd-dev
	# Optional, so that it stops nothing where it cannot be had.
	has_header liburing.h || (missing=(liburing-dev); install_missing) 2>/dev/null || echo "without io_uring: no liburing-dev"
	python=$$(find_python)
	if [[ -z "$$python" ]]; then
	  missing+=(python3 python3-dev python3-venv)
	else
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
	  "$$python" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || missing+=(python3-dev)
	fi
	install_missing
	python=$$(find_python)
	if [[ -z "$$python" ]]; then
	  echo "no Python >= 3.10; name one by: make PYTHON=/path/to/python3" >&2
	  exit 1
	fi
	echo "== making $(VENV) with $$("$$python" --version)"
	"$$python" -m venv $(VENV)
	touch $@

$(VENV)/.tools: $(VENV)/.created
	@echo "== installing the build tools into $(VENV)"
	$(PIP) --upgrade 'pip>=25' # older ones take minutes to choose among versions
	$(PIP) 'scikit-build-core>=0.11' 'pybind11>=3' 'cmake>=3.25' 'ninja>=1.11'
	touch $@

$(VENV)/.built: $(VENV)/.tools $(CPP_SOURCES) $(PYTHON_ROOMS) pyproject.toml
	@echo "== building the extension"
	$(PIP) --no-build-isolation --editable .
	touch $@

# torch stands alone and first, by exact version, so that nothing else chooses it.
$(VENV)/.demo: pyproject.toml $(VENV)/.tools | $(VENV)/.built
	@echo "== installing torch, then what the demo needs"
	$(PIP) torch==2.13.0
	$(PIP) --no-build-isolation --editable '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "== installing what the tests need besides"
	$(PIP) --no-build-isolation --editable '.[test]'
	touch $@

$(VENV)/.lint: pyproject.toml $(VENV)/.tools | $(VENV)/.test
	@echo "== installing the linters"
	$(PIP) --no-build-isolation --editable '.[lint]'
	touch $@

.PHONY: build
build: $(VENV)/.built ## build the extension into .venv (Python sources are used in place)

.PHONY: demo
demo: $(VENV)/.built $(VENV)/.demo ## show what e2eio does on this machine; DATA=path for data of your own
	@echo "== running the demo"
	$(BIN)/python benchmarks/demo.py $(if $(DATA),--data "$(DATA)")

.PHONY: test
test: cpp-test $(VENV)/.built $(VENV)/.test ## run all tests, C++ and Python
	@$(SYSTEM)
	need_command xrootd xrootd-server
	(install_missing) 2>/dev/null || echo "without an XRootD server: no xrootd-server"
	echo "== running the Python tests"
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS)
	echo "== counting the instructions of a jet"
	$(BIN)/python benchmarks/instructions.py

.PHONY: instructions
instructions: $(VENV)/.tools ## count the instructions of a jet and compare with the figures
	@$(SYSTEM)
	need_command valgrind valgrind
	install_missing
	$(BIN)/python benchmarks/instructions.py

.PHONY: peers
peers: $(VENV)/.built $(VENV)/.demo ## install what io_speed measures e2eio beside, into .peers, as far as it can be had
	@$(BIN)/python benchmarks/peers.py install

.PHONY: kernel-speed
kernel-speed: $(VENV)/.built ## time every kernel; then render docs/performance.md
	@$(SYSTEM)
	need_header benchmark/benchmark.h libbenchmark-dev
	install_missing
	$(BIN)/python benchmarks/kernel_speed.py
	$(BIN)/python benchmarks/render.py

.PHONY: aarch64
aarch64: ## run the tests of the kernels for aarch64, under qemu
	@$(SYSTEM)
	need_command aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
	need_command qemu-aarch64 qemu-user
	need_header gtest/gtest.h libgtest-dev
	install_missing
	tests/aarch64.sh

.PHONY: gtest
gtest:
	@$(SYSTEM)
	need_header gtest/gtest.h libgtest-dev
	install_missing

.PHONY: cpp-test
cpp-test: $(VENV)/.tools gtest ## build and run the C++ tests
	@echo "== building the C++ tests"
	cmake --preset dev --log-level=WARNING
	cmake --build --preset dev
	echo "== running the C++ tests"
	ctest --preset dev

.PHONY: sanitize
sanitize: $(VENV)/.tools gtest ## run the C++ tests under the address, undefined and thread sanitizers
	@for preset in asan tsan; do
	  echo "== building and running the C++ tests with preset $$preset"
	  cmake --preset $$preset --log-level=WARNING
	  cmake --build --preset $$preset
	  ctest --preset $$preset
	done

.PHONY: lint
lint: $(VENV)/.built $(VENV)/.lint ## check style and types, Python and C++
	@echo "== ruff"
	ruff check
	ruff format --check
	echo "== mypy"
	mypy
	echo "== clang-format"
	clang-format --dry-run --Werror $(CPP_FORMATTED)
	echo "== clang-tidy"
	printf '%s\n' $(CPP_LINTED) | xargs -P $(JOBS) -n 1 clang-tidy --quiet -p $(EXTENSION_BUILD)

.PHONY: format
format: $(VENV)/.lint ## rewrite the sources in the house style
	@echo "== formatting"
	ruff check --fix-only --quiet
	ruff format --quiet
	clang-format -i $(CPP_FORMATTED)

.PHONY: clean
clean: ## remove what was built, .venv and .peers too
	@echo "== removing build, $(VENV) and .peers"
	rm -rf build $(VENV) .peers .mypy_cache .pytest_cache .ruff_cache .hypothesis
