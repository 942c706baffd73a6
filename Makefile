# `make book` builds the book, `make test` tests it. Each target sets up .venv by itself, and again only when
# a pyproject.toml or constraints.txt changes. README.md has the same steps in plain pip.
#   PYTHON=python3.12   the interpreter (3.11 to 3.13)       PINNED=0         the newest versions, no constraints.txt
#   TORCH_INDEX=cpu     PyTorch's small CPU wheels           LIGHTVIT_DATA=   folder with data sets (any path)
#   LIGHTVIT_PARITY=    folder of reference outputs, for `make parity`        PIP="uv pip"   what installs the packages
#   TESTS="-k lightvit" options for pytest, of test-minimum and test-colab     JOBS=2   tests at a time, 0 for none beside
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := book
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Kernels run in the folder of their page, where a relative path points nowhere.
ifneq ($(strip $(LIGHTVIT_DATA)),)
override LIGHTVIT_DATA := $(abspath $(LIGHTVIT_DATA))
export LIGHTVIT_DATA
endif

JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS)      # a file's tests stay together: they share what is slow to make
PIP := $(BIN)/pip
CONSTRAIN := $(if $(filter 0,$(PINNED)),,-c constraints.txt)
TORCH_WHEELS := $(if $(TORCH_INDEX),https://download.pytorch.org/whl/$(TORCH_INDEX))

.PHONY: help book test parity serve pdf notebooks page classroom bench reference zoo test-book test-devices test-browser test-minimum test-colab clean

book: $(VENV)/.book ## run all pages and build the book; a warning stops the build
	$(BIN)/jupyter-book build . -W --keep-going
	@echo "The book is built. Open $(CURDIR)/_build/html/index.html (or run 'make serve' and open http://127.0.0.1:8000/)"

test: $(VENV)/.test ## run all tests except those that need the built book
	$(PYTEST) --dist loadfile

parity: $(VENV)/.test ## compare the library with stored outputs of other people's code (in LIGHTVIT_PARITY, else ../shared/parity)
	$(BIN)/python tests/run_parity.py

test-book: $(VENV)/.test ## run every notebook with empty stubs, in a clean kernel, without network (the build runs the solutions)
	LIGHTVIT_TEST_BOOK=stubs $(PYTEST) --dist worksteal tests/book/test_run_notebooks.py

test-devices: $(VENV)/.test ## run pages and public functions on a second device that is made for the test; needs a C++ compiler
	LIGHTVIT_TEST_DEVICES=1 $(PYTEST) tests/devices

test-browser: $(VENV)/.test ## test the built book in a real browser; run make book first
	LIGHTVIT_TEST_BROWSER=1 $(PYTEST) --dist loadgroup -m browser tests/book

# Both take minutes and gigabytes, each in an environment of its own, and neither is part of .ci/run.
test-minimum: ## run the library's tests with the lowest versions that pyproject.toml allows (tests/minimum.txt), in .venv-minimum
	$(MAKE) VENV=.venv-minimum PYTHON="$(or $(PYTHON),python3.11 python3 python3.12)" .venv-minimum/.minimum
	.venv-minimum/bin/python -m pytest -n $(JOBS) --dist loadfile --ignore tests/book $(TESTS)

test-colab: ## run every notebook, with stubs and with solutions, with Colab's versions (tests/book/colab), in .venv-colab
	$(MAKE) VENV=.venv-colab PYTHON="$(or $(PYTHON),python3.13 python3.12 python3 python3.11)" .venv-colab/.colab
	LIGHTVIT_TEST_BOOK=all .venv-colab/bin/python -m pytest -n $(JOBS) tests/book/test_run_notebooks.py tests/book/test_colab_lists.py $(TESTS)

serve: ## show the built book at http://127.0.0.1:8000/, for this machine only
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

pdf: $(VENV)/.test ## print the built book as one PDF; run make book first; needs Chromium; SOLUTIONS=1 prints the solutions too
	$(BIN)/python book/_tools/pdf.py $(if $(filter 1,$(SOLUTIONS)),--solutions)

notebooks: $(VENV)/.book ## write the notebooks that Colab opens, from the pages
	$(BIN)/python book/_tools/notebooks.py

page: $(VENV)/.book ## write the files of a new page: make page STEM=dynamic/my_method TITLE="My method"
	$(BIN)/python book/_tools/new_page.py "$${STEM:-}" --title "$${TITLE:-}"

classroom: $(VENV)/.book ## write notebooks, slides (after make book), predictions, answer key and points; NBGRADER=1 adds a course for nbgrader
	$(BIN)/python book/_tools/classroom.py $(if $(filter-out 0,$(NBGRADER)),--nbgrader)

bench: $(VENV)/.test ## run the benchmarks: candidates in turns, ratios with intervals
	for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench; done

reference: $(VENV)/.test ## run the stored studies again (hours on one core; needs LIGHTVIT_DATA); uses a GPU if there is one
	if $(BIN)/python -c "import sys; from lightvit_lab.runtime import device; sys.exit(device().type == 'cpu')"; then \
		$(BIN)/python -m lightvit_lab.experiments.studies gpu_speed; \
		LIGHTVIT_TEST_BOOK=all $(BIN)/python -m pytest tests/book/test_run_notebooks.py -k solutions; fi
	$(BIN)/python -m lightvit_lab.experiments.studies

zoo: $(VENV)/.book ## train the zoo's models again (hours on one core; needs LIGHTVIT_DATA); keeps a stored model that is better
	$(BIN)/python -m lightvit_lab.experiments.zoo
	$(BIN)/python book/_tools/first_look.py      # the picture of the introduction shows one of them

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

clean: ## remove everything that was built, except .venv
	rm -rf _build book/_vendor

$(VENV)/.book: pyproject.toml book/grader/pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,book)

$(VENV)/.test: pyproject.toml book/grader/pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,book$(comma)classroom$(comma)compress$(comma)scale$(comma)test)
	touch $(VENV)/.book      # which needs less

$(VENV)/.minimum: CONSTRAIN := -c tests/minimum.txt
$(VENV)/.minimum: pyproject.toml book/grader/pyproject.toml tests/minimum.txt | $(VENV)/bin/python
	$(call install,test)

# What Colab has of the packages that the notebooks need, what their first cell adds to it, and what runs them here; and
# the package by which plotly knows Colab.
$(VENV)/.colab: CONSTRAIN := -c $(VENV)/constraints.txt
$(VENV)/.colab: pyproject.toml tests/book/colab/pip-freeze.txt book/_tools/colab_lists.py | $(VENV)/bin/python
	$(BIN)/python book/_tools/colab_lists.py --constraints > $(VENV)/constraints.txt
	$(if $(TORCH_WHEELS),$(BIN)/pip install -q $(CONSTRAIN) --index-url $(TORCH_WHEELS) torch torchvision)
	$(BIN)/pip install -q $(CONSTRAIN) $$($(BIN)/python book/_tools/colab_lists.py --needed)
	$(BIN)/pip install -q --no-deps captum -e .
	$(BIN)/pip install -q $(CONSTRAIN) ipykernel ipython jupytext nbclient nbformat pybtex pytest pytest-xdist pyyaml
	packages=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
		mkdir -p "$$packages/google/colab" && touch "$$packages/google/colab/__init__.py"
	touch $@

comma := ,
define install
	$(if $(TORCH_WHEELS),$(PIP) install -q $(CONSTRAIN) --index-url $(TORCH_WHEELS) torch torchvision)
	$(PIP) install -q $(CONSTRAIN) -e ".[$(1)]" -e book/grader
	touch $@
endef

# The first interpreter that is 3.11 to 3.13 and can make virtual environments, or a sentence that says what is missing.
$(VENV)/bin/python:
	@for python in $(or $(PYTHON),python3 python3.11 python3.12 python3.13); do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    echo "Setting up $(VENV) with $$($$python --version) (a few minutes, once)"; \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 with venv was found (tried: $(or $(PYTHON),python3 python3.11 python3.12 python3.13))." >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1
