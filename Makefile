# make demo, make test, make lint and the others: each sets up what it needs in .venv first.
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
OLDEST_KERAS := 3.12.0
# Backends tested at a time, and further arguments for pytest.
JOBS ?= 2
ARGS ?=

# -qq keeps warnings of pip's own configuration out; its errors still show.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
INSTALL := $(PIP) install -c constraints.txt
PACKAGED := $(shell find src -not -name '*.pyc' -not -name __pycache__)

.PHONY: demo test coverage test-oldest lint site notebooks environment wheel vega constraints clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: $(VENV)/tensorflow.stamp $(VENV)/penjing.stamp
	$(BIN)/penjing demo $(ARGS)

test: $(VENV)/all.stamp $(VENV)/penjing.stamp
	@$(BIN)/penjing setup-wasm --dir $(VENV)/wasm >/dev/null 2>&1 \
		|| echo "No LiteRT.js (it needs Node and npm): its tests are skipped."
	$(BIN)/python tests/run_matrix.py --jobs $(JOBS) $(MATRIX) -- $(ARGS)

# Lines of the package that no test runs, on any backend.
coverage: MATRIX := --coverage --minutes 90
coverage: test

# The oldest supported Keras, laid over the same environment. Cases that JAX is spared,
# as they run like others, are left out; not those of layers, which differ by version.
test-oldest: $(VENV)/all.stamp $(VENV)/penjing.stamp .keras-oldest/$(OLDEST_KERAS).stamp
	$(BIN)/python tests/run_matrix.py --backends tensorflow --overlay .keras-oldest \
		--select "not slow and not once" -- tests/models tests/engine tests/channels \
		-k "not costly_on_jax or test_architectures_matrix" $(ARGS)

# Each check runs, whatever the ones before it found.
lint: $(VENV)/all.stamp
	@status=0; \
	$(BIN)/ruff check --output-format concise || status=1; \
	$(BIN)/ruff format --check || status=1; \
	$(BIN)/mypy || status=1; \
	PYTHONPATH=src $(BIN)/lint-imports --no-logo || status=1; \
	exit $$status

# The documents as pages, in build/site/html: strict, every link checked.
site: $(VENV)/site.stamp
	$(BIN)/python site/build.py

# Each notebook of docs/notebooks, on its backend; `make test` runs them too.
notebooks: $(VENV)/all.stamp $(VENV)/penjing.stamp
	$(BIN)/python tests/run_matrix.py --jobs $(JOBS) -- tests/test_notebooks.py -s $(ARGS)

# What the tests and the checks above set up, so that they can run side by side.
environment: $(VENV)/all.stamp $(VENV)/penjing.stamp $(VENV)/site.stamp

wheel: dist/wheel.stamp

# What draws charts in reports. A test compares it; with other versions LICENSE.vega.txt
# changes too.
vega: $(VENV)/all.stamp
	$(BIN)/python -c 'import vl_convert; print(vl_convert.javascript_bundle(vl_version="6.4"), end="")' \
		> src/penjing/report/vega/vega.js

# Resolves all dependencies anew, but for torch, whose pin is edited by hand: the
# newest one on a package index may be a build for another accelerator.
constraints:
	rm -rf .venv-resolve
	$(PYTHON) -m venv .venv-resolve
	.venv-resolve/bin/python -m pip -qq install --upgrade pip
	.venv-resolve/bin/python -m pip -qq install "$$(grep '^torch==' constraints.txt)"
	.venv-resolve/bin/python -m pip -qq install ".[tensorflow,jax,torch,images,micro,ethos,ray,docs,dev]"
	{ echo "# Written by \`make constraints\`: the whole tree for Python 3.11 on Linux."; \
	  echo "# A build of torch for the CPU only, 2.13.0+cpu say, satisfies its pin too."; \
	  .venv-resolve/bin/python -m pip freeze --all \
	  | sed -e '/^penjing/d' -e '/ @ /d' -e 's/+.*//'; } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-resolve

clean:
	rm -rf $(VENV) .venv-resolve .keras-oldest dist build out penjing-demo
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
	find . -path ./.git -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/build.stamp: constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) pip hatchling
	@touch $@

dist/wheel.stamp: $(PACKAGED) pyproject.toml LICENSE NOTICE | $(VENV)/build.stamp
	@rm -rf dist/*.whl && mkdir -p dist
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@touch $@

# What penjing needs, without penjing itself: installed anew only where asked for.
$(VENV)/tensorflow.stamp: pyproject.toml constraints.txt | dist/wheel.stamp
	$(INSTALL) "$$(echo dist/*.whl)[tensorflow]"
	@touch $@

# torch first: nothing after it then asks for another build of it. pip would compile on
# one core, and the tests of these packages too.
$(VENV)/all.stamp: pyproject.toml constraints.txt | dist/wheel.stamp
	$(INSTALL) --no-compile torch
	$(INSTALL) --no-compile "$$(echo dist/*.whl)[tensorflow,jax,torch,images,micro,ethos,ray,dev]"
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|rllib)/' $(VENV)/lib || true
	@touch $@

# Docstrings are read, not imported: no backend is needed.
$(VENV)/site.stamp: pyproject.toml constraints.txt | dist/wheel.stamp
	$(INSTALL) "$$(echo dist/*.whl)[docs]"
	@touch $@

$(VENV)/penjing.stamp: dist/wheel.stamp
	$(PIP) install --no-deps --force-reinstall dist/*.whl
	@touch $@

.keras-oldest/$(OLDEST_KERAS).stamp: | $(VENV)/build.stamp
	@rm -rf .keras-oldest
	$(PIP) install --no-deps --target .keras-oldest keras==$(OLDEST_KERAS)
	@touch $@
