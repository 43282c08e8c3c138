# `make demo` and `make test` each are the only command on a fresh machine.
#   make demo PYTHON=python3.12    chooses the interpreter; else the first that fits
#   make demo ARGS=--epochs=5      hands more flags to main.py
#   make test-fast ARGS=-x         hands more arguments to pytest; ARGS="-n 0": in one process

VENV := .venv
TPU_VENV := .venv-tpu
PEERS_VENV := .venv-peers
RUN := $(VENV)/bin
# Most of the tests' time is tracing, which keeps one core busy; tests/conftest.py puts the
# longest files first.
PYTEST := $(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10
ifdef PYTHON
CANDIDATES := $(PYTHON)
endif
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo docs test test-fast bench bench-peers tpu-check tpu-environments audit lint format \
	chromium clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(RUN)/python main.py $(ARGS)

# Lint, types, then one pytest with the slow tests and the short form of the TPU check.
test: lint tpu-environments
	$(PYTEST) -m "" $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(PYTEST) $(ARGS)

lint: $(VENV)/.installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

# Known vulnerabilities of the pinned packages. Asks the network, so it is no part of `make test`;
# in an environment of its own, since pip-audit brings other versions of some of them.
audit: $(VENV)/.created
	$(RUN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --disable-pip-version-check -q pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

format: $(VENV)/.installed-dev
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

# For the tests of pages, which are skipped without it; installs nothing unless root has apt-get.
chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null && exit; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -q update && apt-get -q install -y --no-install-recommends chromium && exit; \
	fi; \
	echo "No Chromium; the tests of pages will be skipped."

# The documentation as pages, in site/; a warning is an error.
docs: $(VENV)/.installed-dev
	$(RUN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(TPU_VENV) $(PEERS_VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# All benchmarks, into bench-results/; make bench ARGS="kmeans loss" runs some.
bench: $(VENV)/.installed
	$(RUN)/python -m benchmarks $(ARGS)

# What they measure against. Without it they print our side alone.
bench-peers: $(PEERS_VENV)/.installed

$(PEERS_VENV)/.installed: benchmarks/peers/requirements.txt constraints.txt | $(VENV)/.created
	rm -rf $(PEERS_VENV)
	$(RUN)/python -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --disable-pip-version-check -r $<
	@touch $@

# Compiles the training step with the TPU's own compiler, without a TPU.
tpu-check: $(VENV)/.installed tpu-environments
	$(RUN)/python -m tests.system.tpu --json tpu-check.json $(ARGS)

# What lowers a step and what compiles it pin different libtpus, hence two more environments.
# libtpu has no builds for other machines; there the tests that need it say that they skip.
tpu-environments: $(VENV)/.created
	@if $(RUN)/python -c 'import platform, sys; \
	    sys.exit((sys.version_info < (3, 11)) or platform.machine() + sys.platform != "x86_64linux")'; \
	then $(MAKE) --no-print-directory $(TPU_VENV)/lower/.installed $(TPU_VENV)/compile/.installed; \
	else echo "TPU check left out: libtpu wants Python 3.11 to 3.13 on Linux, x86-64."; fi

$(TPU_VENV)/lower/.installed: requirements-tpu.txt
$(TPU_VENV)/compile/.installed: tests/system/tpu/requirements-compile.txt
$(TPU_VENV)/%/.installed:
	rm -rf $(TPU_VENV)/$*
	$(RUN)/python -m venv $(TPU_VENV)/$*
	$(TPU_VENV)/$*/bin/python -m pip install --disable-pip-version-check -r $<
	@touch $@

# A stamp is newer than the files it was made from, so pip runs again only when they change.
$(VENV)/.installed: requirements.txt constraints.txt | $(VENV)/.created
	$(RUN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(RUN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The version is tried by running it: a name on the PATH may be too old, too new or a dead shim.
$(VENV)/.created:
	@for python in $(CANDIDATES); do \
	  "$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null \
	    || continue; \
	  rm -rf $(VENV); \
	  "$$python" -m venv $(VENV) && touch $@ && exec "$$python" --version; \
	  echo "$$python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; \
	  rm -rf $(VENV); \
	done; \
	echo "Expected Python 3.10, 3.11, 3.12 or 3.13. Tried: $(CANDIDATES)." \
	  "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1
