# Everything a checkout needs, in .venv and nowhere else. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Containers often forbid Python to keep what it compiled: then each of the hundreds of processes that tests start compiles
# the project anew, and so does every worker all tests. A server's start takes 2.2 s of CPU in place of 1.4.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Three on two cores: much of a test is waiting. 541 s in place of 663.
WORKERS ?= 3
KEEP ?=
ROW ?=
TIME ?= 60
NODE ?=
# What is said on make's command line; that of the shell may be of a cluster that no demo should be shown in.
ASKED_KUBECONFIG := $(if $(filter command,$(origin KUBECONFIG)),$(KUBECONFIG))

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

$(READY): pyproject.toml constraints.txt scripts/install.sh
	@PYTHON="$(PYTHON)" scripts/install.sh $(VENV)
	@touch $@

.PHONY: install
install: $(READY) ## make .venv with everything in it (the other targets do it themselves)

.PHONY: demo
demo: $(READY) ## show the main job with real Envoy and real requests; KEEP=1 leaves it running
	@exec $(BIN)/fairlead demo $(if $(KEEP),--keep)

.PHONY: demo-rollout
demo-rollout: $(READY) ## rollouts: a good version promoted, a bad one taken back, with the counts
	@exec $(BIN)/fairlead demo --rollout $(if $(KEEP),--keep)

.PHONY: demo-consul
demo-consul: $(READY) ## the same for Consul: health, drain, canary by tag, move, failover; KUBECONFIG=… or NODE=1: out of pods
	@kubeconfig="$$($(BIN)/python -m tests.support.demo_cluster "$(ASKED_KUBECONFIG)" "$(NODE)")"; \
	exec $(BIN)/fairlead demo --consul "$$($(BIN)/python -m tests.support.consul)" \
		$${kubeconfig:+--kubeconfig "$$kubeconfig"} $(if $(KEEP),--keep)

.PHONY: test
test: $(READY) ## all tests that need no root, in some 12 minutes on 2 cores
	$(BIN)/python -m pytest tests -m "not kubernetes and not consul and not spire and not vault and not faults" -n $(WORKERS) --dist loadfile --durations 10 --durations-min 5

.PHONY: test-kubernetes
test-kubernetes: $(READY) ## tests in a real Kubernetes: KUBECONFIG's, or a local node (root, Go 1.26; built once, 8 minutes)
	@test -n "$${KUBECONFIG:-}" || tests/kube-node/kube-node up
	$(BIN)/python -m pytest tests/kubernetes -m "kubernetes and not faults" -n 0 --durations 10 --durations-min 5

.PHONY: test-kubernetes-faults
test-kubernetes-faults: $(READY) ## those of them that take minutes: certificates renewed and a new root under traffic
	@test -n "$${KUBECONFIG:-}" || tests/kube-node/kube-node up
	$(BIN)/python -m pytest tests/kubernetes -m "kubernetes and faults" -n 0 --durations 10 --durations-min 5

.PHONY: test-consul
test-consul: $(READY) ## tests with real Consul agents: the one on PATH, or Debian's, fetched (needs apt)
	$(BIN)/python -m pytest tests -m "consul and not faults" -n 2 --dist loadfile --durations 10 --durations-min 5

.PHONY: test-spire
test-spire: $(READY) ## tests with a real SPIRE: the one on PATH, or one built from its Go module (Go 1.26; once, 10 minutes)
	$(BIN)/python -m tests.support.spire
	$(BIN)/python -m pytest tests -m spire -n 2 --dist load --durations 10 --durations-min 5

.PHONY: test-vault
test-vault: $(READY) ## tests with a real Vault, built from its Go module (Go 1.26; once, 20 minutes)
	$(BIN)/python -m tests.support.real_vault
	$(BIN)/python -m pytest tests -m vault -n 2 --dist load

.PHONY: test-faults
test-faults: $(READY) ## tests that take minutes: rotation, outages and wrong clocks under traffic
	$(BIN)/python -m pytest tests -m "faults and not kubernetes" -n 2 --dist load --durations 10 --durations-min 5

.PHONY: fuzz
fuzz: $(READY) ## fuzz what strangers can send, TIME seconds for each parser
	$(BIN)/python -m pip install --quiet -c constraints.txt atheris
	@for target in spiffe csr token bundle book oidc svid; do \
	  echo "fuzzing $$target"; \
	  $(BIN)/python -m tests.fuzz.parsers $$target -max_total_time=$(TIME) 2>&1 | tail -n 20 | grep -E "^Done|Error|Exception|File" ; \
	done

.PHONY: lint
lint: $(READY) ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: $(READY) ## write the reference pages that are made from the code
	$(BIN)/python -m fairlead.settings_page > docs/reference/settings.md
	$(BIN)/python -m fairlead.metrics > docs/reference/metrics.md
	$(BIN)/python -m tests.docs.reference

.PHONY: conformance
conformance: $(READY) ## Gateway API's official suite on the local node; the report goes to docs/conformance
	tests/kube-node/kube-node up
	tests/conformance/conformance build
	tests/conformance/conformance images
	$(BIN)/python kind-cluster/images
	kind-cluster/install fairlead
	tests/conformance/conformance run || code=$$?; kind-cluster/install remove; exit $${code:-0}

.PHONY: crds
crds: $(READY) ## write the CustomResourceDefinitions of kind-cluster/crds from the model
	$(BIN)/python -m scripts.crds

.PHONY: manifests
manifests: $(READY) ## write kind-cluster/manifests from the chart (needs Go)
	$(BIN)/python -m scripts.manifests

.PHONY: images
images: $(READY) ## make the images of server and proxy and load them into the local node
	tests/kube-node/kube-node up
	$(BIN)/python kind-cluster/images

.PHONY: bench
bench: $(READY) ## measure beside go-control-plane, and in a Kubernetes where one is (needs Go 1.26, takes about 30 minutes); ROW="a b" for some rows
	$(BIN)/python -m benchmarks $(ROW)

.PHONY: clean
clean: ## remove what was made: .venv, caches, built packages
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
