# Everything runs in .venv, which the first target that needs it makes and no later one makes again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# Options for the pip that installs torch, for those who want another build of it than the one that
# PyPI serves, with its 3 GB of CUDA libraries: TORCH_FROM="--index-url URL" or "--find-links FOLDER".
TORCH_FROM ?=
LOCKED := requirements/locked.txt
TORCH := $(shell sed -n 's/^torch==\([^ ]*\).*/\1/p' $(LOCKED))
# torch comes in builds of one version, so it is installed by version and brings the libraries of its
# build along; everything else by the hash of its file.
BUT_TORCH = sed -E '/^(torch|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==/,/[^\\]$$/d'

DIGITS := configs/digits
PAIR := resnet18-w16_resnet18-w4_1xb64_digits

# Detection and segmentation need mmcv's compiled operators, which no wheel has for this torch:
# built once for a version of torch, kept in .wheels, installed in an environment of its own. pip's
# cache may hold one that was built for another torch.
DET_VENV := .venv-det
DET_BIN := $(DET_VENV)/bin
DET_READY := $(DET_VENV)/ready
MMCV := 2.1.0
WHEELS := .wheels/torch-$(TORCH)
# nproc heeds OMP_NUM_THREADS, which is not meant here.
MAX_JOBS ?= $(shell env -u OMP_NUM_THREADS nproc)
WORKERS ?= 2

# For a GPU: make bench BENCH='--short --device cuda'
BENCH ?= --short
BENCH_DIR ?= work_dirs/benchmarks

# What most OpenMMLab installations look like: Debian's torch 1.13 beside NumPy 1.
CLASSIC_PYTHON ?= /usr/bin/python3
CLASSIC := .venv-classic
CLASSIC_READY := $(CLASSIC)/ready

# The newest Python that is on the path or among pyenv's, and whatever the ranges of setup.cfg admit
# today.
NEWEST_PYTHON ?= $(firstword \
    $(foreach minor,14 13 12,$(shell \
        python3.$(minor) -c 'import sys; print(sys.executable)' 2> /dev/null)) \
    $(lastword $(sort $(wildcard $(HOME)/.pyenv/versions/3.1[2-4].*/bin/python))))
NEWEST := .venv-newest
UV := .venv-uv/bin/uv

# The site is built in .venv, whose packages its reference reads.
DOCS_READY := $(VENV)/docs-ready
SITE := build/docs
SPHINX = $(BIN)/python -m sphinx --fresh-env --nitpicky --fail-on-warning --keep-going --quiet

CHECK_PYTHON = $(PYTHON) requirements/check_python.py
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help install lock check-install bench demo demo-methods letters test test-long \
    test-kernels test-trust test-classic test-newest newest-python test-det gpu docs test-docs \
    docs-links figures lint format clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(READY) ## Make .venv with the tested versions

$(READY): $(LOCKED) setup.cfg pyproject.toml
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) $(TORCH_FROM) torch==$(TORCH)
	$(BUT_TORCH) $(LOCKED) > $(VENV)/locked.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --require-hashes -r $(VENV)/locked.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(DOCS_READY): requirements/locked-docs.txt $(READY)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "The versions that build the site need Python 3.11 or newer: make docs PYTHON=python3.11 after make clean")'
	$(BUT_TORCH) $< > $(VENV)/locked-docs.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --require-hashes -r $(VENV)/locked-docs.txt
	touch $@

$(DET_READY): requirements/locked-det.txt setup.cfg pyproject.toml
	@$(CHECK_PYTHON)
	@command -v "$${CXX:-c++}" > /dev/null || { \
	    echo "mmcv's operators need a C++ compiler, and there is no $${CXX:-c++}:" \
	        "install g++ or set CXX" >&2; exit 1; }
	$(PYTHON) -m venv $(DET_VENV)
	$(DET_BIN)/python $(PIP_INSTALL) $(TORCH_FROM) torch==$(TORCH)
	$(BUT_TORCH) requirements/locked-det.txt > $(DET_VENV)/locked.txt
	$(DET_BIN)/python $(PIP_INSTALL) --no-deps --require-hashes -r $(DET_VENV)/locked.txt
	ls $(WHEELS)/mmcv-$(MMCV)-*.whl 2> /dev/null || \
	    PATH="$(CURDIR)/$(DET_BIN):$$PATH" MMCV_WITH_OPS=1 MAX_JOBS=$(MAX_JOBS) \
	    CUDA_VISIBLE_DEVICES= CFLAGS="-g0 -w" \
	    $(DET_BIN)/python -m pip wheel --disable-pip-version-check --no-cache-dir --no-deps \
	    --no-build-isolation --no-binary mmcv --wheel-dir $(WHEELS) mmcv==$(MMCV)
	$(DET_BIN)/python $(PIP_INSTALL) --no-deps $(WHEELS)/mmcv-$(MMCV)-*.whl
	$(DET_BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(UV): requirements/locked-uv.txt
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python $(PIP_INSTALL) --require-hashes -r requirements/locked-uv.txt
	touch $@

LOCK = $(UV) pip compile --quiet --upgrade --generate-hashes --custom-compile-command 'make lock'
lock: $(UV) ## Write the lock files: the newest versions that the ranges admit, with hashes
	$(LOCK) --universal --python-version 3.10 requirements/uv.in -o requirements/locked-uv.txt
	$(LOCK) --universal --python-version 3.10 setup.cfg requirements/test.in \
	    $(foreach extra,mm lite numba vit bench demo export glyphs parquet,--extra $(extra)) -o $(LOCKED)
	$(LOCK) --universal --python-version 3.10 setup.cfg requirements/test.in \
	    requirements/detection.in -c $(LOCKED) -b requirements/build.txt --no-emit-package mmcv \
	    $(foreach extra,mm numba vit demo glyphs detection segmentation,--extra $(extra)) \
	    -o requirements/locked-det.txt
	$(LOCK) --universal --python-version 3.11 setup.cfg -c $(LOCKED) --extra docs \
	    -o requirements/locked-docs.txt
	$(LOCK) --resolution lowest-direct --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	    setup.cfg requirements/classic.in --excludes requirements/classic-excludes.txt \
	    -b requirements/build.txt \
	    $(foreach extra,mm lite numba bench demo glyphs parquet,--extra $(extra)) \
	    $(foreach wheel,numpy scipy matplotlib scikit-learn,--only-binary $(wheel)) \
	    -o requirements/locked-classic.txt

check-install: $(UV) ## Resolve every extra for each Python at both ends; train from a wheel
	$(UV) run --no-project --quiet --with packaging --python $(PYTHON) tools/misc/check_install.py --uv $(UV)
	$(PYTHON) tools/misc/check_wheel.py

demo: $(READY) ## Train a teacher and three kinds of students on real digits, compare them
	$(BIN)/python tools/benchmark.py configs/studies/digits.py

demo-methods: $(READY) ## Train every method without and with ranking on the digits, compare them
	$(BIN)/python tools/benchmark.py configs/studies/digits_methods.py

letters: $(READY) ## Draw letters from installed fonts; train a teacher, a student alone, KD, KD + ranking
	$(BIN)/python tools/dataset_converters/letters.py data/letters
	$(BIN)/python tools/benchmark.py configs/studies/letters.py

# A process a core, and one thread a process: small networks gain nothing from more.
test: $(READY) ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

# A file stays in one process: what its tests share is trained once.
test-long: $(READY) ## Run the tests that take longest: trainings one after another, several processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'long and not trust'

test-kernels: $(READY) ## Run the CUDA kernels in Triton's interpreter, beside the definition
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m kernels tests/test_functional

# The kills alone take longer than any other test may before it is taken for one that hangs.
test-trust: $(READY) ## Kill, stop and resume trainings in full; print what was tried and what was lost
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -m trust -o faulthandler_timeout=5400 tests

# Without the wheel, and without the configs one by one: their networks and losses are built anyway.
test-classic: $(CLASSIC_READY) ## Run the tests on torch 1.13 from Debian 12
	OMP_NUM_THREADS=1 $(CLASSIC)/bin/python -m pytest -n $(WORKERS) \
	    -m 'not trust and not tutorial and not kernels' --ignore tests/test_packaging.py \
	    --ignore tests/test_configs/test_every_config.py

$(CLASSIC_READY): requirements/locked-classic.txt setup.cfg pyproject.toml
	@$(CLASSIC_PYTHON) -c 'import ensurepip, torch, torchvision; \
	    assert torch.__version__.startswith("1.13.")' || { echo; echo \
	    'make test-classic checks the torch 1.13 of Debian 12, which is not there. As root:'; echo \
	    '    apt-get install python3-torch python3-torchvision python3-venv'; exit 1; }
	$(CLASSIC_PYTHON) -m venv --system-site-packages $(CLASSIC)
	$(CLASSIC)/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r requirements/locked-classic.txt
	$(CLASSIC)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

newest-python:
	@echo $(NEWEST_PYTHON)

# Not from a lock: what a user gets who installs today. uv keeps one copy of torch for all.
test-newest: $(UV) ## Run the tests on the newest Python and the newest versions that the ranges admit
	@test -n '$(NEWEST_PYTHON)' || { echo 'make test-newest needs a Python 3.12 or newer:' \
	    'install one, or name it in NEWEST_PYTHON' >&2; exit 1; }
	$(UV) venv --quiet --clear --python $(NEWEST_PYTHON) $(NEWEST)
	$(UV) pip install --quiet --python $(NEWEST) --upgrade --editable \
	    '.[lite,numba,vit,bench,demo,export,glyphs,parquet]' cloudpickle hypothesis pytest pytest-xdist
	$(NEWEST)/bin/python -m mmkendall.compat
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n $(WORKERS) \
	    -m 'not trust and not tutorial' tests/test_compat.py tests/test_functional \
	    tests/test_models tests/test_tools
	$(NEWEST)/bin/mmkendall train $(DIGITS)/resnet18-w4_1xb64_digits.py \
	    --work-dir work_dirs/newest --cfg-options train_cfg.max_epochs=1

test-det: $(DET_READY) ## Build mmcv's operators once, run the tests of detection and segmentation
	$(DET_BIN)/python -c 'import mmcv._ext'
	OMP_NUM_THREADS=1 $(DET_BIN)/python -m pytest -n $(WORKERS) tests/test_detection
	OMP_NUM_THREADS=1 $(DET_BIN)/python -m pytest -n $(WORKERS) tests/test_configs -k pvt

# `make bench BENCH= BENCH_DIR=docs/benchmarks`, all cases, is how docs/benchmarks.md comes about.
bench: $(READY) ## Measure speed, memory, scaling and the share of a training step (short form)
	for script in rank_loss_speed class_scaling training_step_share tau_speed loss_costs \
	    linear_head; do \
	    $(BIN)/python tools/benchmarks/$$script.py --output-dir $(BENCH_DIR) $(BENCH) || exit 1; done
	$(BIN)/python tools/benchmarks/summarize.py --folder $(BENCH_DIR) --output $(BENCH_DIR).md

# Without an environment of its own: a machine with a GPU may have no network. It needs torch, Triton
# and NumPy.
gpu: ## Check and measure the CUDA kernels on this machine's GPU, write a page about it
	$(PYTHON) tools/misc/gpu_report.py

docs: $(DOCS_READY) ## Build the site into build/docs; a warning or a broken link within it is an error
	$(SPHINX) -c docs -b html . $(SITE)
	@echo 'The site begins with $(SITE)/index.html'

test-docs: $(READY) ## Run the tutorial of the site, from its first command to its last
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m tutorial tests/test_docs

docs-links: $(DOCS_READY) ## Ask every address that the site links to whether it is there; needs the network
	$(SPHINX) -c docs -b linkcheck . build/docs-links

figures: $(READY) ## Draw the figures of the site and of the README anew, and print what is in them
	$(BIN)/python docs/figures/draw.py
	$(BIN)/python docs/figures/draw_loops.py

lint: $(READY) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/misc/check_licenses.py

format: $(READY) ## Apply style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environments and build folders; work_dirs and the wheels of mmcv stay
	rm -rf $(VENV) $(CLASSIC) $(DET_VENV) $(NEWEST) .venv-uv build *.egg-info
