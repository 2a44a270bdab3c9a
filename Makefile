# `make` or `make help` lists the targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MODULE   := github.com/hansa-dev/hansa
PROGRAMS := hansa kubefedctl hansa-lab

# Programs carry the commit they were built from, unless git cannot tell: no git, or a checkout of another user.
BUILDVCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

# The tools are pinned in go.tool.mod, apart from what the programs depend on.
tool = go tool -modfile=$(CURDIR)/go.tool.mod $(1)

# kubefed's own tests import a package that no longer exists, hence -e; what it complains about is of no use to anybody.
TIDY := go mod tidy -e

# The packages whose tests need no cluster.
UNIT := go list ./... | grep -v '^$(MODULE)/e2e'

# What the lab runs is built from modules of their own: their dependencies are not those of the programs. Kubernetes'
# module is hardly more than its go.mod; vetting it would analyse all of Kubernetes.
LAB_MODULES   := e2e/node e2e/coredns e2e/kwok
# CHECKED are tested once more in a build that detects who modifies what was published.
CHECKED       := ./federation/clusterset/... ./federation/imports ./eastwest/xds/translate
EXTRA_MODULES := e2e/kubernetes eastwest/xds/servicepb/gen $(LAB_MODULES)

##@ Use

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z0-9-]*:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: programs bin/kubectl ## Put hansa, kubefedctl, hansa-lab and kubectl into bin/

.PHONY: programs
programs: ## Put hansa, kubefedctl and hansa-lab into bin/, without Kubernetes
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=$(BUILDVCS) -ldflags '-s -w' -o bin/ $(PROGRAMS:%=./cmd/%)
	@ln -sf hansa bin/kubectl-hansa # kubectl finds its plugins by name: `kubectl hansa`

# The lab knows whether its Kubernetes binary is built already, so this always asks it.
.PHONY: bin/kubectl
bin/kubectl: programs
	bin/hansa-lab install-kubectl bin

.PHONY: lab
lab: build ## Start a host and two members, spread a sample application; then show what clients notice when clusters die
	bin/hansa-lab tour
	bin/hansa-lab failover --if-possible

.PHONY: lab-down
lab-down: programs ## Stop the lab and remove everything it made
	bin/hansa-lab down

##@ Check

.PHONY: test
test: build test-unit test-modules test-e2e ## Run every test, end to end included

.PHONY: test-unit
test-unit: ## Run the tests that need no cluster
	@packages=$$($(UNIT)); \
	$(call tool,gotestsum) --format pkgname --hide-summary=skipped -- $$packages
	$(call tool,gotestsum) --format pkgname --hide-summary=skipped -- -tags clusterset_checked $(CHECKED)

.PHONY: test-modules
test-modules: ## Run the tests of what the lab runs: nodes (needs root or user namespaces), CoreDNS, kwok
	@for module in $(LAB_MODULES); do \
		(cd $$module && CGO_ENABLED=1 $(call tool,gotestsum) --format pkgname --hide-summary=skipped -- -race ./...); \
	done

.PHONY: test-e2e
test-e2e: build ## Run the tests of the lab and those that run in it
	$(call tool,gotestsum) --format testname --hide-summary=skipped -- -count=1 -timeout 20m ./e2e/...

.PHONY: race
race: ## Run the tests that need no cluster under the race detector
	@packages=$$($(UNIT)); \
	CGO_ENABLED=1 $(call tool,gotestsum) --format pkgname --hide-summary=skipped -- -race $$packages

.PHONY: soak
soak: ## Have gateways work for ten minutes while everything breaks in turn
	go test ./e2e/soak -run TestSoak -count=1 -v -timeout 20m -soak 10m

.PHONY: lint
lint: ## Run the linters
	go vet ./...
	$(call tool,golangci-lint) run ./...
	@for module in $(LAB_MODULES); do \
		echo "go vet, golangci-lint in $$module"; \
		(cd $$module && go vet ./... && $(call tool,golangci-lint) run ./...); \
	done

.PHONY: verify
verify: ## Check that generated files, go.mod and formatting are up to date; changes nothing
	.ci/verify

.PHONY: verify-modules
verify-modules: ## Check that the modules of what the lab runs are tidy
	@for module in $(EXTRA_MODULES); do echo "go mod tidy -diff in $$module"; (cd $$module && GOFLAGS= go mod tidy -diff); done

.PHONY: bench
bench: build ## Run the benchmarks, or one part: make bench BENCH=propagation
	go run ./e2e/bench $(if $(BENCH),--part $(BENCH))

##@ Change

.PHONY: fmt
fmt: ## Format the Go files
	$(call tool,golangci-lint) fmt ./...

.PHONY: generate
generate: ## Make config/crd, deep copies and the messages of xDS from types, config/crdgen/overlay.yaml and .proto files
	@rm -rf bin/crd && mkdir -p bin/crd
	$(call tool,controller-gen) object paths=./federation/api/v1alpha1
	$(call tool,controller-gen) crd paths=sigs.k8s.io/kubefed/pkg/apis/core/... \
		paths=sigs.k8s.io/kubefed/pkg/apis/scheduling/... \
		paths=./federation/api/v1alpha1 output:crd:dir=bin/crd
	@rm -f config/crd/*.yaml
	go run ./config/crdgen -in bin/crd -out config/crd
	@rm -r bin/crd
	go run -C eastwest/xds/servicepb/gen .

.PHONY: tidy
tidy: ## Tidy go.mod and go.sum
	@mkdir -p bin
	$(TIDY) 2>bin/tidy.log || { cat bin/tidy.log; exit 1; }

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
