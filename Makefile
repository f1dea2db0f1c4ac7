# make study: from a fresh clone to the report. Everything is installed inside this folder (.venv, build).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help study setup test test-cluster bench format lock clean
.NOTPARALLEL:

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/build/kenlm/bin:$(PATH)
export PYTHON

UV_VERSION := 0.13.8
LOCK := build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url $(if $(UPGRADE),--upgrade)
FORMATTED := $(wildcard Snakefile) $(wildcard workflow)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

# A Snakemake that was killed leaves its lock behind. A living one holds the folder too (workflow/rules/common.smk).
study: setup  ## set up, run the default study (mini scale), write results/report-mini.html
	@if ls .snakemake/locks/* >/dev/null 2>&1 && flock -n . true; then snakemake --unlock --quiet all; fi
	@snakemake --cores all --rerun-incomplete --quiet host reason
	@echo "study: open results/report-mini.html"

setup:  ## install everything into .venv and build (PYTHON=… names the interpreter)
	@envs/setup.sh

# One thread each: two workers share the machine, and thread counts change the bits of a training.
test: export OMP_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1
test: export OPENBLAS_NUM_THREADS := 1
test: setup  ## set up, linters, types, all tests
	ruff check
	ruff format --check
	mypy
	$(if $(FORMATTED),snakefmt --check $(FORMATTED))
	$(if $(wildcard workflow/Snakefile),snakemake --lint)
	pytest -n 2 --dist loadfile

test-cluster: setup  ## tests on real SLURM daemons, started on this host (root, Debian): minutes
	timeout --kill-after=30 10m envs/slurm.sh || echo "SLURM: its installation did not end; its tests may be skipped."
	pytest tests/cluster -vv -rs --durations=0

bench: setup  ## run every benchmark in bench/, print what they found beside their aims (hours)
	python -m bench

format: setup  ## put Python and Snakemake files into the house format
	ruff check --fix
	ruff format
	$(if $(FORMATTED),snakefmt $(FORMATTED))

# The second lock takes its versions from the first, so that both hold the same.
lock:  ## resolve envs/*.in into the locked requirements (UPGRADE=1 takes newer versions)
	@test -x build/uv/bin/uv || { $${PYTHON:-python3} -m venv build/uv && build/uv/bin/pip install -q uv==$(UV_VERSION); }
	$(LOCK) envs/requirements.in -o envs/requirements.txt
	$(LOCK) envs/requirements-dev.in -c envs/requirements.txt -o envs/requirements-dev.txt
	$(LOCK) envs/build.in -o envs/build.txt

clean:  ## remove build/ and caches (never results/ or .venv/)
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find src tests bench workflow -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
