# make run      every notebook, from first cell to last, on the embedded model
# make test     set up what is missing and run the whole suite
# make test-clients   the kit's servers with other people's clients
# make test-colab     the set-up cell and notebooks in an imitation of Colab
# make test-browser   every notebook in JupyterLab, in Chromium
# make serve    a model behind vLLM, until Ctrl-C
# make test-vllm      vLLM with the embedded model, and two of it behind a router
# make site     a static site of the notebooks, in runs/site
# make lab      open JupyterLab on your own copy of the notebooks
# make workshop what a teacher needs, in runs/workshop
# make help     all of it

BACKEND   ?= pocket
NOTEBOOKS ?=
MAX_USD   ?=
# Not from the environment, where other programs have such names.
PRICE     :=
MODEL     :=
BASE_URL  :=
ENGINE    :=
REPLICAS  :=
POLICY    :=
HOST      :=
PORT      :=
PYTHON    ?= python3
# Where PyTorch's build for CPUs is. Empty: PyTorch comes from the ordinary index.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu

VENV      := .venv
PY        := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# The tests and the linters need more than a user of the notebooks does.
DEV       := $(VENV)/.installed-dev
# Other people's clients, in an environment without the kit.
CLIENTS   := .venv-clients
# Playwright, which drives the Chromium of this machine.
BROWSER   := $(VENV)/.installed-browser

.DEFAULT_GOAL := help
.PHONY: help run site serve test test-clients test-colab test-browser test-vllm lab workshop notebooks lint clean

help:
	@echo 'make run         run every notebook: results in runs/$(BACKEND)/index.html'
	@echo '                 BACKEND=openrouter  NOTEBOOKS="03 05"  MAX_USD=0.50'
	@echo '                 BACKEND=mistral  MAX_USD=0.50  PRICE=IN,OUT (USD per million tokens)'
	@echo '                 BACKEND=vllm  MODEL=...  BASE_URL=http://host:8000/v1'
	@echo 'make site        build a static site of the notebooks: runs/site/index.html'
	@echo 'make serve       serve a model with vLLM, installed once (4 GB); Ctrl-C ends it'
	@echo '                 MODEL=pocket  REPLICAS=2  POLICY=round_robin  PORT=8000  HOST=0.0.0.0'
	@echo '                 ENGINE=pocket REPLICAS=2  the embedded model'\''s own server, behind a router'
	@echo 'make test        run the whole test suite'
	@echo 'make test-clients  test the kit'\''s servers with other people'\''s clients (600 MB)'
	@echo 'make test-colab  test the set-up on Colab, in an imitation of it (1 GB)'
	@echo 'make test-browser  run every notebook in JupyterLab, in Chromium: pictures in runs/browser'
	@echo 'make test-vllm   test vLLM with the embedded model on this CPU (4 GB, 5 minutes)'
	@echo 'make lab         open JupyterLab on my/, your own copy of the notebooks'
	@echo 'make workshop    what a teacher needs, in runs/workshop: see WORKSHOP.md'
	@echo 'make notebooks   re-execute the committed notebooks in place (NOTEBOOKS="03 05")'
	@echo 'make lint        ruff, the import contracts and the notebook checks'
	@echo 'make clean       remove runs/ and caches (.venv and .venv-clients stay)'
	@echo 'PYTHON=python3.12 chooses the Python that .venv is made from'

run: $(INSTALLED)
	@$(PY) -m helpers run --backend '$(BACKEND)' --notebooks '$(NOTEBOOKS)' \
	  $(if $(MODEL),--model '$(MODEL)') $(if $(BASE_URL),--base-url '$(BASE_URL)') \
	  $(if $(MAX_USD),--max-usd '$(MAX_USD)') $(if $(PRICE),--price '$(PRICE)')

site: $(INSTALLED)
	@$(PY) -m helpers site

serve: $(INSTALLED)
	@$(PY) -m helpers serve $(if $(MODEL),--model '$(MODEL)') $(if $(ENGINE),--engine '$(ENGINE)') \
	  $(if $(REPLICAS),--replicas '$(REPLICAS)') $(if $(POLICY),--policy '$(POLICY)') \
	  $(if $(HOST),--host '$(HOST)') $(if $(PORT),--port '$(PORT)')

# Two files at a time, each with one thread: threads that share cores wait for each other.
test: $(DEV)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

test-clients: $(INSTALLED) $(CLIENTS)/.installed
	$(CLIENTS)/bin/python -m pytest --disable-warnings --confcutdir=tests/clients tests/clients

test-colab: $(DEV)
	$(PY) -m pytest -s --confcutdir=tests/notebooks tests/notebooks/test_colab.py

test-browser: $(DEV) $(BROWSER)
	$(PY) -m pytest tests/browser

test-vllm: $(DEV)
	$(PY) -m pytest tests/vllm

lab: $(INSTALLED)
	@$(PY) -m helpers lab

workshop: $(INSTALLED)
	@$(PY) -m helpers workshop --backend '$(BACKEND)'

notebooks: $(DEV)
	$(PY) -m helpers notebooks $(NOTEBOOKS)

lint: $(DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	$(PY) -m helpers check

# On Linux the ordinary index has PyTorch for CUDA, which is 6 GB more. Without an NVIDIA GPU its
# build for CPUs is installed first. If that index does not answer, the ordinary one is used.
define cpu-torch
if [ "$$(uname -s)" = Linux ] && [ -n "$(TORCH_CPU)" ] && ! command -v nvidia-smi >/dev/null; then \
  if $(PY) -c 'from urllib.request import urlopen; urlopen("$(TORCH_CPU)/torch/", timeout=5)' \
      2>/dev/null; then \
    $(PY) -m pip install -q --disable-pip-version-check --no-deps --index-url '$(TORCH_CPU)' \
      "$$(grep '^torch==' constraints.txt)" || true; \
  else echo 'PyTorch: its index for CPUs does not answer, so it comes from the ordinary one: up to 6 GB more.'; fi; \
fi
endef

# The stamp is written last: an install that was interrupted, or whose lists have changed since,
# is done again. It names the folder: after a move, .venv still has the address of the old one.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif
$(INSTALLED): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 14))' || \
	  echo 'The kit is tested with Python 3.11 to 3.13. If this fails: make PYTHON=python3.13 ...' >&2
	@$(PYTHON) -c 'import ensurepip' || \
	  { echo 'Python has no venv here. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Installing into $(VENV): some minutes the first time, about 1 GB.'
	$(PYTHON) -m venv $(VENV)
	@$(cpu-torch)
	$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt -c constraints.txt -e .
	@pwd -P > $@

$(DEV): $(INSTALLED) requirements-dev.txt requirements-train.txt
	$(PY) -m pip install -q --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@touch $@

$(BROWSER): $(DEV) requirements-browser.txt
	$(PY) -m pip install -q --disable-pip-version-check -r requirements-browser.txt -c constraints.txt
	@touch $@

$(CLIENTS)/.installed: requirements-clients.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-clients.txt
	@touch $@

clean:
	rm -rf runs .pytest_cache .ruff_cache notebooks/.ruff_cache build *.egg-info
	find helpers labkit pocket_model pocket_training openrouter_sim tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
