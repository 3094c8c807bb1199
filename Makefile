# Everything runs in .venv, which the first target that needs it makes and no later one makes again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

DIGITS := configs/digits
PAIR := resnet18-w16_resnet18-w4_1xb64_digits

# Detection and segmentation need mmcv's compiled operators, which no wheel has for this torch:
# built once for a version of torch, kept in .wheels, installed in an environment of its own. pip's
# cache may hold one that was built for another torch.
DET_VENV := .venv-det
DET_BIN := $(DET_VENV)/bin
DET_READY := $(DET_VENV)/ready
MMCV := 2.1.0
WHEELS := .wheels/torch-$(shell sed -n 's/^torch==//p' requirements/tested.txt)
# nproc heeds OMP_NUM_THREADS, which is not meant here.
MAX_JOBS ?= $(shell env -u OMP_NUM_THREADS nproc)
WORKERS ?= 2

# For a GPU: make bench BENCH='--short --device cuda'
BENCH ?= --short

METHODS := kd ctkd dkd mlkd lskd dist

# What most OpenMMLab installations look like: Debian's torch 1.13 beside NumPy 1.
CLASSIC_PYTHON ?= /usr/bin/python3
CLASSIC := .venv-classic
CLASSIC_READY := $(CLASSIC)/ready

CHECK_PYTHON = $(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), \
	f"the tested versions are for Python 3.11, this is {sys.version.split()[0]}; " \
	"run make PYTHON=python3.11"'
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help install bench demo demo-methods test test-classic test-det lint format clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(READY) ## Make .venv with the tested versions

$(READY): requirements/tested.txt setup.cfg pyproject.toml
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -r requirements/tested.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(DET_READY): requirements/tested.txt requirements/tested-det.txt setup.cfg pyproject.toml
	$(CHECK_PYTHON)
	@command -v "$${CXX:-c++}" > /dev/null || { \
	    echo "mmcv's operators need a C++ compiler, and there is no $${CXX:-c++}:" \
	        "install g++ or set CXX" >&2; exit 1; }
	$(PYTHON) -m venv $(DET_VENV)
	grep -v '^mmcv-lite==' requirements/tested.txt > $(DET_VENV)/tested.txt
	$(DET_BIN)/python $(PIP_INSTALL) -r $(DET_VENV)/tested.txt -r requirements/tested-det.txt
	ls $(WHEELS)/mmcv-$(MMCV)-*.whl 2> /dev/null || \
	    PATH="$(CURDIR)/$(DET_BIN):$$PATH" MMCV_WITH_OPS=1 MAX_JOBS=$(MAX_JOBS) \
	    CUDA_VISIBLE_DEVICES= CFLAGS="-g0 -w" \
	    $(DET_BIN)/python -m pip wheel --disable-pip-version-check --no-cache-dir --no-deps \
	    --no-build-isolation --no-binary mmcv --wheel-dir $(WHEELS) mmcv==$(MMCV)
	$(DET_BIN)/python $(PIP_INSTALL) --no-deps $(WHEELS)/mmcv-$(MMCV)-*.whl
	$(DET_BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

demo: $(READY) ## Train a teacher and three kinds of students on real digits, compare them
	$(BIN)/python tools/compare.py --work-dir work_dirs/demo --seeds 0 1 2 \
	    --teacher $(DIGITS)/resnet18-w16_1xb64_digits.py \
	    --arm "student alone=$(DIGITS)/resnet18-w4_1xb64_digits.py" \
	          "KD=$(DIGITS)/kd_logits_$(PAIR).py" \
	          "KD + ranking=$(DIGITS)/kd-rank_logits_$(PAIR).py"

demo-methods: $(READY) ## Train every method without and with ranking on the digits, compare them
	$(BIN)/python tools/compare.py --work-dir work_dirs/demo-methods --seeds 0 \
	    --teacher $(DIGITS)/resnet18-w16_1xb64_digits.py \
	    --arm "student alone=$(DIGITS)/resnet18-w4_1xb64_digits.py" \
	    $(foreach method,$(METHODS), \
	        "$(method)=$(DIGITS)/$(method)_logits_$(PAIR).py" \
	        "$(method) + ranking=$(DIGITS)/$(method)-rank_logits_$(PAIR).py")

# A process a core, and one thread a process: small networks gain nothing from more.
test: $(READY) ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Without the wheel, and without the configs one by one: their networks and losses are built anyway.
test-classic: $(CLASSIC_READY) ## Run the tests on torch 1.13 from Debian 12
	OMP_NUM_THREADS=1 $(CLASSIC)/bin/python -m pytest -n 2 --ignore tests/test_packaging.py \
	    --ignore tests/test_configs/test_every_config.py

$(CLASSIC_READY): requirements/tested-classic.txt setup.cfg pyproject.toml
	@$(CLASSIC_PYTHON) -c 'import ensurepip, torch, torchvision; \
	    assert torch.__version__.startswith("1.13.")' || { echo; echo \
	    'make test-classic checks the torch 1.13 of Debian 12, which is not there. As root:'; echo \
	    '    apt-get install python3-torch python3-torchvision python3-venv'; exit 1; }
	$(CLASSIC_PYTHON) -m venv --system-site-packages $(CLASSIC)
	$(CLASSIC)/bin/python $(PIP_INSTALL) -r requirements/tested-classic.txt
	$(CLASSIC)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

test-det: $(DET_READY) ## Build mmcv's operators once, run the tests of detection and segmentation
	$(DET_BIN)/python -c 'import mmcv._ext'
	OMP_NUM_THREADS=1 $(DET_BIN)/python -m pytest -n $(WORKERS) tests/test_detection
	OMP_NUM_THREADS=1 $(DET_BIN)/python -m pytest -n $(WORKERS) tests/test_configs -k pvt

bench: $(READY) ## Measure speed, memory, scaling and the share of a training step (short form)
	for script in rank_loss_speed class_scaling training_step_share tau_speed; do \
	    $(BIN)/python tools/benchmarks/$$script.py $(BENCH) || exit 1; done
	$(BIN)/python tools/benchmarks/summarize.py --output docs/benchmarks.md

lint: $(READY) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Apply style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the other targets made, but for the wheels of mmcv
	rm -rf $(VENV) $(CLASSIC) $(DET_VENV) work_dirs build *.egg-info
