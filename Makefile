# Everything runs in .venv, which the first target that needs it makes and no later one makes again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

DIGITS := configs/digits
PAIR := resnet18-w16_resnet18-w4_1xb64_digits

METHODS := kd ctkd dkd mlkd lskd dist

# What most OpenMMLab installations look like: Debian's torch 1.13 beside NumPy 1.
CLASSIC_PYTHON ?= /usr/bin/python3
CLASSIC := .venv-classic
CLASSIC_READY := $(CLASSIC)/ready

.PHONY: help install bench demo demo-methods test test-classic lint format clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(READY) ## Make .venv with the tested versions

$(READY): requirements/tested.txt setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), \
	    f"the tested versions are for Python 3.11, this is {sys.version.split()[0]}; " \
	    "run make PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/tested.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --editable .
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
	$(CLASSIC)/bin/python -m pip install --quiet --disable-pip-version-check \
	    -r requirements/tested-classic.txt
	$(CLASSIC)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --editable .
	touch $@

bench: $(READY) ## Measure speed, memory, scaling and the share of a training step (short form)
	for script in rank_loss_speed class_scaling training_step_share tau_speed; do \
	    $(BIN)/python tools/benchmarks/$$script.py --short || exit 1; done
	$(BIN)/python tools/benchmarks/summarize.py --output docs/benchmarks.md

lint: $(READY) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Apply style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(CLASSIC) work_dirs build *.egg-info
