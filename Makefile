# Engine's commands. `make` alone lists them. Nothing here needs sudo or writes outside the checkout and the user's
# cache folder (the Go and pip caches, and engine/ for ONNX Runtime).

.DEFAULT_GOAL := help
SHELL         := bash
.SHELLFLAGS   := -eu -o pipefail -c
MAKEFLAGS     += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
PYTHON  ?= python3
# The packages that are checked: all of the main module.
PKGS    ?= ./...
# Go's own limit on one package's tests.
TEST_TIMEOUT      ?= 12m
TEST_FULL_TIMEOUT ?= 35m
SOAK_TIMEOUT      ?= 12h
# What takes longest comes first, so that the others run beside it.
LONGEST := ./internal/e2e ./internal/testcluster
# How many histories `make sim` runs.
SEEDS             ?= 100000
FUZZTIME          ?= 30s
BENCH             ?= .

TOOLS     := .tools
VENV      := .venv
FETCH_ORT := scripts/fetch-onnxruntime.sh
BUF       := $(TOOLS)/buf
PROTOC_GO := $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc
LINTER    := $(TOOLS)/golangci-lint
GOTESTSUM := $(TOOLS)/gotestsum
# A real Postgres for the tests of tables, into the user's cache folder.
FETCH_POSTGRES := scripts/fetch-postgres.sh
# A real S3 server for the tests of storage.
VERSITYGW := $(TOOLS)/versitygw
BASELINE  := proto/engine.binpb

# Tests use Python as an oracle where it is there: the virtual environment of `make venv`, or the user's ENGINE_PYTHON.
# Expanded when a recipe runs, so that a venv made by the same make is seen.
ENGINE_PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(CURDIR)/$(VENV)/bin/python)
export ENGINE_PYTHON
# The oracle and the benchmark's control load ONNX Runtime in Python, whose official builds report to their vendor.
export ORT_DISABLE_TELEMETRY := 1

# Set by the user, or fetched. The script checks the sum and prints the path.
ort = ort="$${ENGINE_ONNXRUNTIME:-$$($(FETCH_ORT))}"; export ENGINE_ONNXRUNTIME="$$ort"

# In CI a missing prerequisite is a failure, so there the Python oracle is made first.
ifeq ($(CI),true)
VENV_IN_CI := venv
endif

##@ Use

.PHONY: help
help: ## List these targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z][a-zA-Z_-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: quickstart
quickstart: build ## Score generated wine rows with the example model and show the first predictions
	@$(GO) build -trimpath -o bin/wine-generate ./examples/wine/generate
	@$(GO) build -trimpath -o bin/wine-show ./examples/wine/show
	@bin/wine-generate -rows 100000 -files 4 -out examples/wine/data
	@$(ort); bin/engine run examples/wine/job.yaml
	@echo
	@bin/wine-show -rows 5 -columns 'alcohol,sulphates,volatile acidity,quality,prediction' examples/wine/out
	@echo
	@echo "The predictions are Parquet files in examples/wine/out. Open them with"
	@echo "  python -c \"import pandas; print(pandas.read_parquet('examples/wine/out'))\""
	@echo "or any other reader of Parquet (DuckDB, Spark, Polars). The job is examples/wine/job.yaml:"
	@echo "point source.csv.paths at your own files and run  bin/engine run examples/wine/job.yaml  again."

.PHONY: build
build: need-go need-cc onnxruntime ## Build bin/engine
	@CGO_ENABLED=1 $(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/engine ./cmd/engine
	@echo "bin/engine $(VERSION)"

.PHONY: python
python: ## Build the Python distributions into bin/python
	@scripts/python-wheels.sh

.PHONY: python-docs
python-docs: ## Build the API documentation of the Python distributions into bin/python-docs
	@scripts/python-docs.sh

.PHONY: onnxruntime
onnxruntime: ## Fetch and check ONNX Runtime, into the user's cache folder
	@$(ort); test -f "$$ENGINE_ONNXRUNTIME" || { echo "ENGINE_ONNXRUNTIME=$$ENGINE_ONNXRUNTIME: no such file" >&2; exit 1; }

##@ Check

.PHONY: all
all: generate lint test build ## Generate, lint, test and build

.PHONY: test
test: need-go need-cc onnxruntime $(VENV_IN_CI) $(GOTESTSUM) $(VERSITYGW) ## Everything a change needs: vet, and all tests with the race detector
	@start=$$SECONDS; $(ort); $(FETCH_POSTGRES) >/dev/null; \
	echo "go vet"; $(GO) vet $(PKGS); \
	echo "go vet, without cgo"; CGO_ENABLED=0 $(GO) vet $(PKGS); \
	$(GOTESTSUM) --format pkgname-and-test-fails --format-hide-empty-pkg -- -race -timeout $(TEST_TIMEOUT) $(PKGS); \
	echo "make test: passed in $$((SECONDS-start)) s"

.PHONY: test-full
test-full: need-go need-cc onnxruntime venv lint checkgenerate $(GOTESTSUM) $(VERSITYGW) ## What `make test` leaves out: lint, generated code, long tests, Python, Airflow, notebooks
	@start=$$SECONDS; $(ort); PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; export PATH; $(FETCH_POSTGRES) >/dev/null; tokenizer/testdata/fetch.sh >/dev/null; scripts/fetch-minilm.sh >/dev/null; \
	$(MAKE) sim SEEDS=10000; $(MAKE) test-python; $(MAKE) test-airflow; $(MAKE) test-notebooks; $(MAKE) python-docs; \
	ENGINE_TEST=full $(GOTESTSUM) --format pkgname-and-test-fails --format-hide-empty-pkg -- -race -timeout $(TEST_FULL_TIMEOUT) $(if $(filter ./...,$(PKGS)),$(LONGEST)) $(PKGS); \
	echo "make test-full: passed in $$((SECONDS-start)) s"

.PHONY: test-python
test-python: build ## Ruff, mypy, and the tests of the Python client against bin/engine; PYTHON=python3.13 chooses another
	@$(ort); scripts/python-test.sh bin/engine

.PHONY: test-airflow
test-airflow: build $(VERSITYGW) ## The Airflow provider, with a real Airflow and bin/engine; PYTHON=python3.13 chooses another
	@$(ort); scripts/airflow-test.sh bin/engine

.PHONY: test-notebooks
test-notebooks: build ## Execute the notebooks of examples/notebooks with bin/engine, into bin/notebooks
	@$(ort); scripts/fetch-minilm.sh >/dev/null; scripts/notebooks-test.sh bin/engine

.PHONY: audit
audit: need-go ## Known vulnerabilities, licences, and a bill of materials in bin/engine.cdx.json; AUDIT_OFFLINE=1 passes where the first cannot be looked up
	@scripts/supply-chain.sh sbom bin/engine.cdx.json; scripts/supply-chain.sh licences bin/engine.cdx.json; \
	scripts/supply-chain.sh vulnerabilities || { code=$$?; [ $$code -eq 3 ] && [ -n "$${AUDIT_OFFLINE:-}" ]; }

.PHONY: soak
soak: need-go need-cc onnxruntime venv $(GOTESTSUM) $(VERSITYGW) ## The tests that run for hours
	@$(ort); $(FETCH_POSTGRES) >/dev/null; ENGINE_TEST=soak $(GOTESTSUM) --format standard-verbose -- -race -count=1 -timeout $(SOAK_TIMEOUT) $(PKGS)

.PHONY: sim
sim: need-go ## Simulate whole clusters in virtual time from SEEDS seeds (100,000); a failing one prints its trace
	@ENGINE_SIM_SEEDS=$(SEEDS) $(GO) test -count=1 -timeout $(SOAK_TIMEOUT) -run 'TestSimulation$$' -v ./head/sim

.PHONY: race
race: need-go need-cc onnxruntime $(VERSITYGW) ## The tests with the race detector alone, always run anew
	@$(ort); $(FETCH_POSTGRES) >/dev/null; $(GO) test -race -count=1 -timeout $(TEST_TIMEOUT) $(PKGS)

.PHONY: lint
lint: need-go lint-proto $(LINTER) ## Lint Go and the protocol, and check the protocol for breaking changes
	@$(LINTER) run $(PKGS)
	@echo "lint: clean"

.PHONY: lint-proto
lint-proto: $(BUF)
	@$(BUF) format --diff --exit-code
	@$(BUF) lint
	@if [ -f $(BASELINE) ]; then $(BUF) breaking --against $(BASELINE); fi

.PHONY: bench
bench: need-go need-cc onnxruntime ## Go benchmarks; BENCH=regexp chooses
	@$(ort); $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PKGS)

.PHONY: bench-score
bench-score: build venv ## Wine rows to Parquet against a control in Python; ROWS=10000000 RUNS=3 PEERS=daft,ray,spark
	@$(GO) build -trimpath -o bin/wine-generate ./examples/wine/generate
	@$(ort); $(VENV)/bin/python bench/score/bench.py

.PHONY: bench-memory
bench-memory: build venv ## Peak memory at 1, 10, and 50 million wine rows, CSV and Parquet, in one file and in many; ROWS, FILES, FORMATS, LIMIT
	@$(GO) build -trimpath -o bin/wine-generate ./examples/wine/generate
	@$(ort); $(VENV)/bin/python bench/score/memory.py

.PHONY: bench-objectstore
bench-objectstore: build ## Puts, gets, Flight and spilling against controls; CASE="put get idle small flight spill" RUNS=15
	@$(GO) build -trimpath -o bin/bench-objectstore ./bench/objectstore
	@$(ort); bin/bench-objectstore $(CASE)

.PHONY: bench-embed
bench-embed: build venv ## News texts embedded against a bare loop and whole programs; ROWS=3800 RUNS=3 PEERS=1
	@$(GO) build -trimpath -o bin/bench-embed ./bench/embed
	@$(ort); scripts/fetch-minilm.sh >/dev/null; bin/bench-embed; $(VENV)/bin/python bench/embed/bench.py

.PHONY: bench-core
bench-core: build ## Tasks, waiting jobs, start, and the head's loss; CASE="noop latency million jobs start idle restart scheduler" RUNS=5 PEERS=1
	@$(GO) build -trimpath -o bin/bench-core ./bench/core
	@$(ort); bin/bench-core $(CASE)

.PHONY: fuzz
fuzz: need-go need-cc onnxruntime ## Run every fuzz target for FUZZTIME (30s)
	@$(ort); scripts/fuzz.sh $(FUZZTIME)

##@ Change

.PHONY: generate
generate: need-go $(BUF) $(PROTOC_GO) ## Regenerate all generated files
	@$(BUF) build -o /dev/null
	@find proto -name '*.pb.go' -delete
	@$(BUF) generate
	@$(GO) generate $(PKGS)

.PHONY: checkgenerate
checkgenerate: need-go $(BUF) $(PROTOC_GO) ## Fail if a generated file is not current
	@sums() { git ls-files -z --cached --others --exclude-standard | sort -zu | xargs -0 sha256sum 2>/dev/null || true; }; \
	sums > $(TOOLS)/before.sums; $(MAKE) generate; sums > $(TOOLS)/after.sums; \
	if ! diff $(TOOLS)/before.sums $(TOOLS)/after.sums > $(TOOLS)/changed.sums; then \
	  echo "checkgenerate: \`make generate\` changed these files; commit the result:" >&2; \
	  sed -n 's/^[<>] [0-9a-f]*  /  /p' $(TOOLS)/changed.sums | sort -u >&2; exit 1; fi; \
	echo "checkgenerate: current"

.PHONY: proto-accept
proto-accept: $(BUF) ## Make today's protocol the baseline of the breaking check
	@$(BUF) build --exclude-source-info -o $(BASELINE)
	@echo "$(BASELINE) is the protocol as it stands; commit it with the reason"

.PHONY: venv
venv: $(VENV)/.installed ## Python environment of the oracle tests and benchmarks, in .venv

$(VENV)/.installed: requirements-test.txt
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "missing: Python 3 with venv and pip ($(PYTHON))" >&2; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@

.PHONY: clean
clean: ## Remove what make built, generated data and outputs included
	rm -rf bin $(TOOLS) $(VENV) examples/wine/data examples/*/out bench/*/data bench/*/out

# Tools of pinned versions, in modules of their own.
$(BUF): tools/proto/go.mod tools/proto/go.sum
	@echo "building buf (about a minute, once)" >&2
	@$(GO) build -C tools/proto -trimpath -o $(CURDIR)/$@ github.com/bufbuild/buf/cmd/buf
$(TOOLS)/protoc-gen-go: tools/proto/go.mod tools/proto/go.sum
	@$(GO) build -C tools/proto -trimpath -o $(CURDIR)/$@ google.golang.org/protobuf/cmd/protoc-gen-go
$(TOOLS)/protoc-gen-go-grpc: tools/proto/go.mod tools/proto/go.sum
	@$(GO) build -C tools/proto -trimpath -o $(CURDIR)/$@ google.golang.org/grpc/cmd/protoc-gen-go-grpc
$(LINTER): tools/lint/go.mod tools/lint/go.sum
	@echo "building golangci-lint (about two minutes, once)" >&2
	@$(GO) build -C tools/lint -trimpath -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(GOTESTSUM): tools/lint/go.mod tools/lint/go.sum
	@$(GO) build -C tools/lint -trimpath -o $(CURDIR)/$@ gotest.tools/gotestsum
$(VERSITYGW): tools/s3/go.mod tools/s3/go.sum
	@echo "building versitygw, an S3 server for the tests (about a minute, once)" >&2
	@$(GO) build -C tools/s3 -trimpath -o $(CURDIR)/$@ github.com/versity/versitygw/cmd/versitygw

# Prerequisites, one line each.
.PHONY: need-go need-cc
need-go:
	@command -v $(GO) >/dev/null || { echo "missing: Go 1.26 or newer, https://go.dev/dl" >&2; exit 1; }
need-cc:
	@cc="$${CC:-$$($(GO) env CC)}"; command -v $${cc%% *} >/dev/null || { echo "missing: a C compiler ($$cc), for example gcc" >&2; exit 1; }
