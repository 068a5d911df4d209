# Quadrille's commands. `make` alone lists them.
# Each recipe that starts, stops or asks something is a script in infra/local, where it can also be called by hand.

# With -p bash takes neither options nor functions nor a start-up file from the environment.
SHELL := /bin/bash
.SHELLFLAGS := -p -euo pipefail -c
.DEFAULT_GOAL := help
# One thing after another, and one cargo at a time.
.NOTPARALLEL:

# A toolchain that rustup has just installed is not on the PATH of a shell that was open before.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

# Programs are built into this checkout's own folder, whatever cargo's settings say: that is where all look for them, and two checkouts never
# take each other's.
export CARGO_TARGET_DIR := $(CURDIR)/target
unexport BASH_ENV ENV CDPATH SHELLOPTS BASHOPTS CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR CARGO_BUILD_BUILD_DIR
export LC_ALL := C.UTF-8

local := infra/local
# Runs a command in this checkout's world, whatever its ports.
world := $(local)/env

##@ The local world: Kafka, schema registry, PostgreSQL

up: servers build-up ## Bring up the three servers, with topics, schemas and tables; twice changes nothing
	@$(local)/platform
	@$(local)/where

infra: servers ## Bring up the three servers alone, without any Rust
	@$(local)/where

servers:
	@$(local)/prerequisites servers
	@$(local)/up

down: ## End services and servers gracefully; data are kept
	@$(local)/down

clean: ## End everything and remove .run with all its data (not the caches, nor target)
	@$(local)/clean

prerequisites: ## Install what this machine lacks, after saying what and why
	@$(local)/prerequisites

##@ The services

build: prerequisites ## Build every program
	@cargo build --workspace --bins

# What a target needs, and no more. With --workspace all have the features of the whole, and nothing is built twice.
service_programs = $(addprefix quadrille-,$(shell $(local)/roster))
programs = cargo build --workspace $(addprefix --bin ,$(1))

build-up: prerequisites
	@$(call programs,quadrille $(service_programs))

build-services: prerequisites
	@$(call programs,quadrille-stand-ins)

build-demo: prerequisites
	@$(call programs,quadrille-show)

services: up build-services ## Start the six services and the stand-ins for the outside world
	@$(local)/services start

stop: ## End services and stand-ins gracefully
	@$(local)/services stop

status: ## Show processes, lag and open sagas
	@$(local)/services status

##@ Checks

check: prerequisites ## Format, lints and the quick tests; needs nothing running
	@cargo fmt --all --check
	@cd docs/meters && cargo fmt --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@cargo test -q --workspace --lib

test: up build ## Every test, on the real servers, with topics and databases of their own
	@$(world) cargo test --workspace

choreography: build ## The choreography before it runs: sound, drawn, told to AsyncAPI; broken ones refused
	@infra/choreography/run

prove: build ## Explore every state of small worlds, with the policies that ship: the contract's claims hold in each
	@target/debug/quadrille-model prove

prove-mutations: build ## Alter one thing at a time: each is caught, with a shortest counterexample
	@target/debug/quadrille-model mutations

prove-deep: build ## Larger worlds, an hour and 12 GiB; not for CI
	@target/debug/quadrille-model prove --deep

mutants: prerequisites ## Alter policies and core line by line, and have their own tests say so; half an hour and more, not for CI. BASE=rev: changed lines only
	@BASE="$(BASE)" $(local)/mutants

odd-shells: up ## The scripts and programs in odd paths, locales and environments: what starts no server
	@python3 -E infra/shells/odd.py

odd-shells-long: up ## The same with `make up services demo` in each, in a copy of this checkout; half an hour
	@python3 -E infra/shells/odd.py --long

shows := show-kcat show-kill show-two show-rebalance show-deadlines show-effects show-malformed show-hostile-short show-foreign show-foreign-workspace show-replay show-memory

# What guards every commit, in under 60 minutes on two cores. What adds more than 5 moves something into `long`.
ci := build check choreography prove prove-mutations test odd-shells demo $(shows)
long := show-hostile odd-shells-long

ci: $(ci) ## What guards every commit: checks, proof, tests, demo and shows; `.ci/run` makes one after another
full: $(ci) $(long) ## All of it, before something larger is called done

ci-steps:
	@echo $(ci)

##@ Seeing is believing

demo: services build-demo ## 34 kinds of order, seen live, each to the end that was asked for
	@$(world) target/debug/quadrille-show demo

record: services build-demo ## The demo again, into docs/demo.txt
	@$(world) target/debug/quadrille-show demo > docs/demo.txt

shows: $(shows) ## Every show, one after another

show-kcat: up ## An order placed and followed with kcat alone
show-kill: up ## kill -9 of all six services in the middle of 500 orders: nothing lost, nothing doubled
show-two: up ## Two instances of each service, one stopped, one killed
show-rebalance: up ## 1, 3 and again 1 instance of each service under 100 orders/s
show-deadlines: up ## Both deadlines of an order, with and without an answer on its way
show-effects: up ## Charges and refunds that the provider never tells of, redriven or answered by a person: each done once
show-malformed: up ## 100 malformed records on every topic between good orders
show-hostile: up ## All that has once stopped a service, and 1,000 variations of it, while 500 orders pass: nothing stands still; ten minutes
show-hostile-short: up ## The same with 100 orders, 200 variations and four faults
show-foreign: up ## Confluent's Python client reads every topic
show-foreign-workspace: up ## docs/meters, a workspace of its own, is built and run, killed in the middle, and read over HTTP
show-replay: up ## 500 orders are recorded and decided again: the same by this build, found out where a line of a policy is changed
show-memory: up ## Memory of each service after 5,000 orders
$(shows) show-hostile: show-%: build
	@$(world) target/debug/quadrille-show $*

##@ How fast it is

# Without the tests' and shows' programs, which nobody measures.
bench_build = $(call programs,quadrille quadrille-stand-ins quadrille-bench $(service_programs)) --release

bench: prerequisites servers ## Measure a release build, about ten minutes; kept in docs/bench
	@$(bench_build)
	@$(world) target/release/quadrille schemas apply
	@$(world) target/release/quadrille-bench --out docs/bench

bench-compare: prerequisites servers ## Measure this build and BASE=rev in turns, and tell the ratios
	@$(bench_build)
	@$(local)/bench-base "$(BASE)" $(bench_build)
	@$(world) target/release/quadrille schemas apply
	@$(world) target/release/quadrille-bench compare .run/bench/target/release

help:
	@awk 'BEGIN { FS = ":.*?## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*?## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up infra servers down clean prerequisites build services stop status check choreography test odd-shells odd-shells-long build-up build-services build-demo ci full ci-steps demo record shows bench bench-compare prove prove-mutations prove-deep mutants show-hostile help $(shows)
