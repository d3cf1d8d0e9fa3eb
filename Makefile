# Every target does its own set-up: a machine needs Python 3.11 and make, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo prove up env chaos test test-browser test-proofs test-gpu test-docker bench lint sbom audit format docs clean

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed: install Python 3.11, or set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	# torch first and by name: a later range would take a build for CUDA, several GB of it.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[gpu,sandbox,console,local,ops,s3,plots,dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/explorer demo

prove: $(INSTALLED)
	$(BIN)/explorer prove --seeds $(or $(SEEDS),4) --updates $(or $(UPDATES),4)

up: $(INSTALLED)
	$(BIN)/explorer up

# Needs no more than Python, because the machine that runs compose may have nothing else. FOR=x asks for the four keys.
FOR ?= sandbox
OUT ?= .env
env:
	@python3 scripts/make_env.py --for $(FOR) --out $(OUT)

test: $(INSTALLED)
	$(BIN)/pytest

# BENCH="ppo ..." picks rows; the default is all that need no GPU, with GPU=1 all that need one.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(if $(GPU),--gpu) $(BENCH)

# MINUTES=40 FAULTS=300 SEED=7; without a seed, one is drawn and printed. GUARD=off takes the claim of a post away.
chaos: $(INSTALLED)
	CHAOS_MINUTES=$(or $(MINUTES),3) CHAOS_SEED=$(or $(SEED),0) $(if $(FAULTS),CHAOS_FAULTS=$(FAULTS)) \
	  $(BIN)/pytest -m "slow or chaos" -s $(if $(GUARD),-k claim,-k twice) tests/chaos

test-proofs: $(INSTALLED)
	$(BIN)/pytest -m proof

test-browser: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'
	$(BIN)/pytest -m browser tests/console

# Needs an NVIDIA GPU, and a torch that was built for it in the environment.
test-gpu: $(INSTALLED)
	$(BIN)/pytest -m gpu tests/gpu

test-docker: $(INSTALLED)
	$(BIN)/pytest -m docker tests/docker

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m dbs.document --check
	$(BIN)/python scripts/architecture.py --check

# build/sbom.json: every pin of constraints.txt, with its licence.
sbom: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[audit]'
	$(BIN)/python scripts/sbom.py
	$(BIN)/pytest -m audit tests/unit/test_supply_chain.py

# Needs an index that tells advisories; SERVICE=osv asks osv.dev. Fails where neither can be asked.
audit: sbom
	$(BIN)/python scripts/audit.py --service $(or $(SERVICE),pypi)

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)
	$(BIN)/python -m dbs.document
	$(BIN)/python scripts/architecture.py

clean:
	rm -rf data/demo data/local data/backtest data/prove build .pytest_cache .mypy_cache .ruff_cache
