# Everything works with Go alone; make only gives the long commands names.

GO              ?= go
GOLANGCI_LINT   ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK     ?= $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZTIME        ?= 10s
MODELTIME       ?= 30m

PACKAGE  := github.com/prometheus/common/version
VERSION  ?= $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null || echo unknown))
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BRANCH   ?= $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null || echo unknown)
# The commit's date, not the clock's, so that a build can be repeated byte for byte.
DATE     ?= $(shell git log -1 --format=%cd --date=format:%Y%m%d-%H:%M:%S 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X $(PACKAGE).Version=$(VERSION) -X $(PACKAGE).Revision=$(REVISION) \
            -X $(PACKAGE).Branch=$(BRANCH) -X $(PACKAGE).BuildUser=make -X $(PACKAGE).BuildDate=$(DATE)

.PHONY: all
all: build

.PHONY: build
build: ## Build the binary into the working directory.
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o clickhouse_postgres_exporter .

.PHONY: demo
demo: ## Run the exporter on an embedded, simulated upstream.
	$(GO) run . --demo

.PHONY: test
test: ## All tests that need only Go and a C compiler (for the race detector).
	$(GO) test -race ./...

.PHONY: test-long
test-long: ## Simulated hours of large fleets, clocks that jump, a million series.
	$(GO) test -tags slow -timeout 30m ./collector ./internal/schedule ./internal/faulttest

# Hundreds of services under a real Prometheus take ten times as long with the race detector.
LARGE_FLEETS = TestHealthyFleet/700

# -count=1: go test does not know that the program under test has changed.
.PHONY: test-e2e
test-e2e: ## Against a real Prometheus, as Go packages; the first build takes minutes.
	cd internal/e2e && $(GO) test -race -count=1 -timeout 30m -skip $(LARGE_FLEETS) ./...
	cd internal/e2e && $(GO) test -count=1 -run $(LARGE_FLEETS) .

.PHONY: test-packaging
test-packaging: ## Chart, manifests, image and workflow files against what reads them.
	cd internal/packagingtest && $(GO) test -count=1 ./...

.PHONY: test-slow
test-slow: ## The same against a real API server, BuildKit and goreleaser; builds them first.
	cd internal/packagingtest && $(GO) test -tags slow -timeout 90m ./...
	cd internal/e2e && $(GO) test -tags slow -timeout 90m -run 'Telegraf|VictoriaMetrics' ./...

.PHONY: soak
soak: ## An hour of faults at random, a real Prometheus scraping, all its values checked; SOAK_DURATION sets how long.
	$(GO) test -race -tags soak -run TestSoak -timeout 0 -v ./internal/faulttest

.PHONY: model
model: ## The collector against a model of it, under other random events each time, for MODELTIME.
	$(GO) test -v -timeout 0 -run 'TestModel$$' ./internal/modeltest -rapid.checks 200 -model.time $(MODELTIME)

CHART_FILES := deploy/helm/clickhouse-postgres-exporter/files

.PHONY: chart-files
chart-files: ## Copy the rules, the dashboards and the names of the flags into the chart.
	rm -rf $(CHART_FILES) && mkdir -p $(CHART_FILES)/rules $(CHART_FILES)/dashboards
	cp deploy/prometheus/rules/*.yml $(CHART_FILES)/rules/
	cp deploy/grafana/dashboards/*.json $(CHART_FILES)/dashboards/
	sed -n '/^## /q; s/^| `--\([a-z.-]*\)`.*/\1/p' docs/flags.md > $(CHART_FILES)/flags.txt

.PHONY: release-snapshot
release-snapshot: ## A release without a tag, in dist/.
	$(GO) run github.com/goreleaser/goreleaser/v2@v2.12.0 release --snapshot --clean

.PHONY: format
format: ## Rewrite the code in the project's format.
	$(GOLANGCI_LINT) fmt ./...

.PHONY: lint
lint: ## Formatting, vet and linters; fails on any finding.
	$(GO) vet ./...
	$(GOLANGCI_LINT) run --build-tags slow,soak ./...
	cd internal/e2e && $(GOLANGCI_LINT) run -c ../../.golangci.yml --build-tags slow ./...
	cd internal/packagingtest && $(GOLANGCI_LINT) run -c ../../.golangci.yml --build-tags slow ./...

.PHONY: tidy
tidy: ## Fail if go.mod or go.sum of any module is not tidy.
	$(GO) mod tidy -diff
	cd internal/e2e && $(GO) mod tidy -diff
	cd internal/packagingtest && $(GO) mod tidy -diff

.PHONY: check
check: tidy lint test ## What every commit must pass.

.PHONY: vulncheck
vulncheck: ## Known vulnerabilities that the binary can reach; asks https://vuln.go.dev.
	$(GOVULNCHECK) .

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME.
	@set -e; $(GO) list ./... | while read -r pkg; do \
	  for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"; \
	  done; \
	done

.PHONY: bench
bench: ## What scrapes, refreshes and memory cost, against others in the same run; takes a quarter of an hour.
	$(GO) run ./internal/bench

.PHONY: help
help: ## This list.
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16
