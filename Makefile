# What this project needs beyond Python, git and make, these targets put into environments of their own.
# PYTHON=python3.12 chooses the interpreter of a new environment.

PYTHON ?= python3
VENV = .venv
OLDEST = .venv-oldest
# Files of tests are shared out among processes of one thread each: two take 73 s where one takes 113 s.
PYTEST = -m pytest --numprocesses 2 --dist loadfile
PICTURE = output/mini/mask_rcnn_fpn/predictions.png

# A Detectron2 that the caller's shell happens to offer would change the backend: DETECTRON2 alone names one.
unexport PYTHONPATH MASKRCNN_REPRO_BACKEND
# Without files of bytecode every process that a test starts compiles the package, and every run of the tests them.
unexport PYTHONDONTWRITEBYTECODE
ifdef DETECTRON2
ifeq ($(wildcard $(DETECTRON2)/detectron2/__init__.py),)
$(error DETECTRON2=$(DETECTRON2) holds no package detectron2: name a checkout of Detectron2)
endif
export PYTHONPATH := $(abspath $(DETECTRON2))
endif

.PHONY: help demo test test-slow test-oldest lint docs
.DELETE_ON_ERROR:

help: ## say what can be made (the default)
	@echo "make TARGET [PYTHON=python3.12] [DETECTRON2=FOLDER OF A CHECKOUT]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

demo: $(PICTURE) ## train a small Mask R-CNN, evaluate it, name the picture of its predictions
	@echo "Predictions beside ground truth: $(CURDIR)/$(PICTURE)"
	@echo "To train again: rm -r $(dir $(PICTURE)), then make demo"

# --resume begins where there is no checkpoint, goes on after an interruption, and evaluates what is trained.
$(PICTURE): | $(VENV)/test.stamp
	@echo "Training and evaluating configs/mini/mask_rcnn_fpn.yaml (four to fifteen minutes on two cores)"
	@$(VENV)/bin/python train_net.py --config-file configs/mini/mask_rcnn_fpn.yaml --resume

test: $(VENV)/test.stamp $(if $(DETECTRON2),$(VENV)/detectron2.stamp) ## run the default tests
	@echo "Running the default tests (two to six minutes on two cores)"
	@$(VENV)/bin/python $(PYTEST)

test-slow: $(VENV)/test.stamp ## run the tests that are marked slow
	@echo "Running the slow tests"
	@$(VENV)/bin/python -m pytest -m slow

lint: $(VENV)/dev.stamp ## check style, format and types
	@echo "Checking style, format and types"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

docs: $(VENV)/docs.stamp ## build the pages into build/docs; a warning is an error
	@echo "Building the pages into build/docs"
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

test-oldest: $(OLDEST)/test.stamp ## run the default tests with the oldest versions that pyproject.toml allows
	@echo "Running the default tests with the versions of $(OLDEST)/oldest.txt"
	@$(OLDEST)/bin/python $(PYTEST)

# VENV/EXTRA.stamp: the project is installed in VENV, editable, with this extra of pyproject.toml.
$(VENV)/%.stamp: pyproject.toml
	@echo "Installing the project and its extra '$*' into $(VENV) (the first time two to ten minutes and 6 GB)"
	@$(PYTHON) -c 'import tomllib' 2>/dev/null || \
	    { echo "$(PYTHON) is not Python 3.11 or later: name one, make PYTHON=python3.12"; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --editable ".[$*]"
	@touch $@

# What Detectron2 imports beyond what this project needs, so that an uncompiled checkout works.
$(VENV)/detectron2.stamp: | $(VENV)/test.stamp
	@$(VENV)/bin/python -m pip install --quiet cloudpickle omegaconf
	@touch $@

$(OLDEST)/test.stamp: pyproject.toml scripts/oldest_requirements.py
	@echo "Installing the oldest allowed versions into $(OLDEST) (the first time two to ten minutes and 6 GB)"
	@mkdir -p $(OLDEST)
	@$(PYTHON) scripts/oldest_requirements.py > $(OLDEST)/oldest.txt
	@test -x $(OLDEST)/bin/pip || $(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/oldest.txt --editable ".[test]"
	@touch $@
