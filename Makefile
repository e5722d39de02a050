# make run     the gateway with a simulated provider and two demo consumers, on https://localhost:8443
# make test    every check, as CI runs them (a few minutes on two cores)
# make build   ./caddy, from xcaddy.json
# make bench   the gateway measured against plain Caddy on this machine
# make bench-compare BASE=<git ref>   the same, by turns with the gateway of another commit
# make chaos SEED=<n> STORE=sqlite|redis|sentinel|both   faults of every kind against real gateways, and a ledger of what they answered
# make chaos ROUNDS=100 RATE=2000   gateways killed at random instants under load
# make soak    half an hour at half the sustained rate, STORE=sqlite or redis; writes its readings and charts to .run
# make vuln    known vulnerabilities of Go and of the modules, as far as the gateway reaches them
# make lint, make fmt, make prose

# xcaddy's own flags, for everything: binaries, vet and lint then share one build cache. Nothing here needs git.
export CGO_ENABLED := 0
export GOFLAGS := $(GOFLAGS) -buildvcs=false -trimpath -tags=nobadger,nomysql,nopgx

# The sequences that the stores' model tries are the same each time, so that what fails is due to a change. RAPID_SEED=0 draws new ones.
export RAPID_SEED ?= 1534545229746596954

# Tests that share nothing and wait more than they work run beside each other, more of them than there are cores.
PARALLEL := -parallel 4

# The race detector needs cgo. It leaves out SQLite, which is C that was translated to Go and works on memory of its own:
# watched, it needs five times as long, and finds nothing of the gateway's.
RACE := CGO_ENABLED=1 go test -race '-gcflags=modernc.org/...=-race=false' -count=1 $(PARALLEL)
INTEGRATION := go test -count=1 $(PARALLEL) ./caddymodule/integration
CHAOS := ./caddymodule/chaos
POWERCUT := ./caddymodule/powercut

LINT_VERSION := v2.15.0
LINT := .bin/golangci-lint-$(LINT_VERSION)/golangci-lint

# What the checks need beside Go: a command, and the Debian package that brings it.
TOOLS := chromium:chromium gcc:gcc node:nodejs npm:npm promtool:prometheus redis-server:redis-server sqlite3:sqlite3 strace:strace

# Node.js for tests of what runs on it: Debian 12 brings 18, and the packages that are tested need 20.
NODE := node-linux-$(if $(filter aarch64,$(shell uname -m)),arm64,x64)
NODE_VERSION := 20.20.2
export PATH := $(CURDIR)/.bin/node/node_modules/$(NODE)/bin:$(PATH)

# The packages whose tests have a target of their own below; all others are the units. Those OUTSIDE look at built binaries.
STORES := ./relay/internal/storetest ./relay/internal/sqlitefile ./relay/sqlitestore ./relay/spool
ON_REDIS := ./relay/redisstore ./relay/engine
GLUE := ./caddymodule
OUTSIDE := ./caddymodule/integration $(POWERCUT) $(CHAOS)
BROWSER := ./caddymodule/dashboard/browser

.NOTPARALLEL:
.PHONY: run build test bench bench-compare chaos soak fmt format vet lint prose race unit conformance goldens outside integration powercut browser smoke vuln tools

run:
	@mkdir -p .run
	go build -o .run/caddy ./caddymodule/caddy
	go build -o .run/provider ./caddymodule/fakeprovider/run
	@printf '\nSubmit a task, and see its callback arrive at both consumers after 5 seconds, its files in .run/files, and both at $(DASHBOARD):\n\n  %s\n\n' "$(SUBMIT)"
	@printf 'With %s in place of {}, nobody is called back, and the gateway asks for the result.\n\n' '$(LOST)'
	@printf 'Or post a callback yourself:\n\n  %s\n\n' "$$CURL"
	@.run/provider -listen 127.0.0.1:9103 -delay 5s -insecure & provider=$$!; \
	trap 'kill -INT $$provider 2>/dev/null' EXIT INT TERM; \
	XDG_DATA_HOME=$(CURDIR)/.run/data XDG_CONFIG_HOME=$(CURDIR)/.run/config .run/caddy run --config Caddyfile

SUBMIT := curl -k https://localhost:8443/api/v1/vocal-removal/generate -H 'Content-Type: application/json' -d '{}'
LOST := {"fate":{"never":true}}
# In the environment, since the shell would take its quotes for its own.
run: export CURL := curl -ki https://localhost:8443/callbacks/vocals -H 'Content-Type: application/json' -d '{"code":200,"msg":"success","data":{"task_id":"my-task"}}'

DASHBOARD := https://localhost:8443/dashboard/

build:
	go run -C caddymodule/xcaddy .

# The order is from cheap to dear. The last step relays a callback through the very binary that xcaddy.json gives.
test: tools format vet lint race outside build smoke

format: $(LINT)
	$(LINT) fmt --diff

vet:
	go vet ./...
	go vet -C caddymodule/xcaddy ./...

lint: $(LINT)
	$(LINT) run
	cd caddymodule/xcaddy && $(CURDIR)/$(LINT) run --config $(CURDIR)/.golangci.yml

# The wording of comments and of what people read.
prose:
	go test -count=1 ./docs

# Everything that the race detector watches. Some packages wait more than they work, so more run at once than there are
# cores, and the long ones begin first.
race:
	apart=$$(go list $(OUTSIDE) $(BROWSER)) && \
	packages=$$(go list ./... | grep -vxF "$$apart") && $(RACE) -p 3 $(ON_REDIS) $(STORES) $$packages
	$(MIGRATION)

# The parts of it.
unit:
	apart=$$(go list $(STORES) $(ON_REDIS) $(GLUE) $(OUTSIDE) $(BROWSER)) && \
	packages=$$(go list ./... | grep -vxF "$$apart") && $(RACE) $$packages

conformance:
	$(RACE) $(ON_REDIS) $(STORES)
	$(MIGRATION)

goldens:
	$(RACE) $(GLUE)

# A file of 100,000 events, which would take minutes with the race detector.
MIGRATION := go test -count=1 -run TestMigrateLarge ./relay/sqlitestore

# Everything that looks at built binaries. The long integration tests begin first, and the others follow each other beside them.
outside: $(BROWSER)/node_modules
	$(INTEGRATION) $(CHAOS) $(POWERCUT) $(BROWSER)

# The parts of it. The short form of chaos runs beside the integration tests.
integration:
	$(INTEGRATION) $(CHAOS)

# What a loss of power leaves. RELAY_POWER_CUTS=1000 cuts it that often in each recording.
powercut:
	go test -count=1 $(POWERCUT)

# The dashboard in a headless Chromium. SCREENSHOTS=<folder> keeps pictures of its pages.
browser: $(BROWSER)/node_modules
	go test -count=1 $(BROWSER)

$(BROWSER)/node_modules: $(BROWSER)/package-lock.json
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund
	@touch $@

smoke:
	RELAY_CADDY=$(CURDIR)/caddy $(INTEGRATION) -v -run 'TestBinary|TestSampleCallback'

bench:
	go run ./caddymodule/bench

# A seed decides what is harmed, and when; SEEDS=<n> tries several. FAULTS=kill,disk,… are the only ones, DURATION=<time> how long.
chaos:
	go run $(CHAOS)/run -store $(or $(STORE),both) $(if $(SEED),-seed $(SEED)) $(if $(SEEDS),-seeds $(SEEDS)) $(if $(RATE),-rate $(RATE)) \
		$(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(FAULTS),-faults $(FAULTS)) $(if $(DURATION),-duration $(DURATION)) $(if $(QUIET),-quiet)

soak:
	@mkdir -p .run
	go run ./caddymodule/bench -only soak -store $(or $(STORE),sqlite) -out .run/soak-$(or $(STORE),sqlite) $(SOAK)

# The other commit is checked out beside this one for as long as its binary takes to build.
bench-compare:
	@test -n "$(BASE)" || { echo 'which commit? make bench-compare BASE=<git ref>' >&2; exit 2; }
	@dir=$$(mktemp -d) && trap 'git worktree remove --force "$$dir/base"; rm -rf "$$dir"' EXIT && \
	git worktree add --quiet --detach "$$dir/base" "$(BASE)" && \
	(cd "$$dir/base" && go build -o "$$dir/caddy-base" ./caddymodule/caddy) && \
	go run ./caddymodule/bench -base "$$dir/caddy-base" $(BENCH)

fmt: $(LINT)
	$(LINT) fmt

# Building the linter takes minutes, so one of that very version that is there already will do.
$(LINT):
	@mkdir -p $(@D)
	@if [ "v$$(golangci-lint version --short 2>/dev/null)" = $(LINT_VERSION) ]; then \
		ln -sf "$$(command -v golangci-lint)" $@; \
	else \
		GOBIN=$(CURDIR)/$(@D) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION); \
	fi

tools:
	@missing=; for tool in $(TOOLS); do \
		command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool#*:}"; \
	done; \
	[ -z "$$missing" ] || { set -x; $(SUDO) apt-get -qq update && $(SUDO) apt-get -qq install --no-install-recommends $$missing libc6-dev; }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || \
		npm install --prefix .bin/node --no-audit --no-fund --ignore-scripts $(NODE)@$(NODE_VERSION)

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# The newest database comes as a module, so that whatever brings Go's modules brings it too. It changes by itself: not a part of the tests.
vuln:
	go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) \
		-db "file://$$(go mod download -json golang.org/x/vulndb@latest | sed -n 's/^.*"Dir": "\(.*\)",$$/\1/p')/data/osv" ./...

GOVULNCHECK_VERSION := v1.9.0

# The picture of packages in docs/architecture.md; a unit test fails if it is out of date.
architecture:
	go run ./internal/architecture
.PHONY: architecture
