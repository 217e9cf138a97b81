# Rhetor. Targets:
#   make            all programs, in bin/
#   make deps       install what is missing (Debian 12; through sudo if not root)
#   make demo       the whole pipeline on data that Rhetor generates itself  [SEED=1]
#   make lab        the laboratory's small tier: which findings hold, in some two hours on 2 cores
#   make test       all tests; make test T=name runs those whose name contains it
#   make test-slurm rhetor-submit on a real Slurm of two nodes on this machine (root), in a minute or two
#   make test-web   the pages of rhetor-label and rhetor-serve in a real browser  [PICTURES=DIR]
#   make bench      measures the machine's limits and our share of them, in some five minutes
#   make bench-peers  the same work in PyTorch and others, in turns  [PEERS="step-small ..."]
#   make lint       format, warnings, who-includes-whom
#   make asan       everything with AddressSanitizer and UBSan, in build/asan
#   make test-faults  kills, full disks, damage, NaN, hangs, ... on configs/tiny  [FAULTS=quick T=row SEED=1]
#   make fuzz       the readers of files against damaged ones, in build/asan  [FUZZ_SECONDS=60 each, T=name]
#   make plugin     build/plugin/libh5zstd.so, with which h5py and others read our files
#   make install    PREFIX=/usr/local  [DESTDIR=DIR]
#   make deb        build/rhetor_0.1.0_amd64.deb, through dpkg-buildpackage; lintian looks at it
#   make test-build builds against other libraries, as a user without root (packaging/test-build.sh)
# A line a file; V=1 shows the commands. Objects go to build/<variant>/, so the variants never mix.

ifeq ($(origin CC),default)
CC      := gcc
endif
VARIANT ?= release
B       := build/$(VARIANT)
BIN     := $(if $(filter release,$(VARIANT)),bin,$(B)/bin)
PREFIX  ?= /usr/local
VERSION := 0.1.0

# --- the house: a room may include itself and the rooms on its line (make lint checks it) -------
# A room inside a room goes by its own name here; FOLDER_ says where it lies.
ROOMS            := base h5 core tokenizer world data dist model optim checkpoints exchange train rlhf eval serve http pipeline plan lab
FOLDER_h5        := base/h5
FOLDER_tokenizer := data/tokenizer
FOLDER_world     := data/world
FOLDER_exchange  := checkpoints/exchange
FOLDER_http      := serve/http
USES_base        := base
USES_h5          := h5 base
USES_core        := core base
USES_tokenizer   := tokenizer base
USES_world       := world base
USES_data        := data tokenizer world h5 core base
USES_dist        := dist base
USES_model       := model core base
USES_optim       := optim dist core base
USES_checkpoints := checkpoints dist h5 base
USES_exchange    := exchange checkpoints model data tokenizer world dist h5 core base
USES_train       := train exchange checkpoints optim model data tokenizer world dist h5 core base
USES_rlhf        := rlhf $(USES_train)
USES_eval        := eval $(USES_rlhf)
USES_serve       := serve $(USES_eval)
USES_http        := http $(USES_serve)
USES_pipeline    := pipeline base
USES_lab         := lab pipeline $(USES_eval)
USES_plan        := plan pipeline $(USES_rlhf)
USES_tools       := lab plan pipeline $(USES_http)
USES_e2e         := $(USES_tools)
USES_fuzz        := $(USES_tools)
USES_faults      := $(USES_tools)
folder            = $(or $(FOLDER_$(1)),$(1))
FOLDERS          := $(foreach r,$(ROOMS),$(call folder,$(r)))

# --- flags ---------------------------------------------------------------------------------------
# tools/detect.sh finds the libraries; what may be said to it: BLAS=blis, MPICC=, HDF5=, HDF5_DIR=, ...
said     := $(foreach v,CC MPICC HDF5 BLAS CPPFLAGS LDFLAGS $(filter %_DIR %_ROOT,$(.VARIABLES)),$(if $($(v)),$(v)='$($(v))'))
$(shell mkdir -p $(B) && $(said) tools/detect.sh >$(B)/libraries.mk.$$PPID && mv $(B)/libraries.mk.$$PPID $(B)/libraries.mk)
include $(B)/libraries.mk
WARN     := -Wall -Wextra -Wshadow -Wdouble-promotion -Wstrict-prototypes -Wno-unused-parameter
STRICT   := -Wconversion -Wno-sign-conversion
OPT      := -O3 -fno-math-errno -fno-trapping-math
ifeq ($(VARIANT),asan)
OPT      := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
endif
ifeq ($(VARIANT),double)
OPT      += -DRHETOR_DOUBLE
endif
# CPPFLAGS, CFLAGS and LDFLAGS are the user's (a packager's); ours come after them.
cppflags := -I. -D_GNU_SOURCE -DRHETOR_VERSION='"$(VERSION)"' $(DEPS_CFLAGS)
cflags   := -std=gnu11 -g $(OPT) -fopenmp $(WARN)
# Two variants in which a warning is an error; make lint builds their objects. In a program linked
# by clang its OpenMP runtime comes first and also answers the calls that OpenBLAS makes to gcc's.
ifeq ($(VARIANT),clang)
CC     := clang
cflags += -Wno-pass-failed # a loop not vectorised is no error
endif
ifneq ($(filter lint clang,$(VARIANT)),)
cflags += -Werror
endif
libs     := $(DEPS_LIBS) -ldl -lm
strict_rooms := base base/h5 data data/tokenizer data/world checkpoints

# --- what there is to build ----------------------------------------------------------------------
# Without libmicrohttpd or SQLite all but the programs that serve pages is built.
no_http  := $(filter MICROHTTPD SQLITE,$(MISSING))
STAGES   := $(shell awk -F'"' '/^STAGE/ {print $$2}' base/stages.h)
STAGES   := $(basename $(foreach s,$(STAGES),$(wildcard train/$(s).c rlhf/$(s).c)))
TOOLS    := $(patsubst %.c,%,$(wildcard tools/*.c))
TOOLS    := $(if $(no_http),$(filter-out tools/rhetor-label tools/rhetor-serve,$(TOOLS)),$(TOOLS))
MAINS    := $(STAGES) $(TOOLS)
sources   = $(if $(no_http),$(filter-out serve/http/%,$(all_sources)),$(all_sources))
all_sources = $(filter-out $(STAGES:=.c),$(wildcard $(call folder,$(1))/*.c))
archive   = $(B)/lib$(1).a
archives  = $(foreach r,$(1),$(call archive,$(r)))
TESTS    := $(patsubst %.c,$(B)/%,$(foreach r,$(if $(no_http),$(filter-out http,$(ROOMS)),$(ROOMS)) e2e faults,$(wildcard tests/$(r)/test_*.c)))
FUZZERS  := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))

# say WORD,FILE: the line that stands for a command; none with V=1 or -s
say = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),,@echo "$(1) $(2)";)

# Other flags, other objects: they depend on a file that changes when the flags do.
FLAGS := $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(cppflags) $(cflags) $(STRICT) $(MPI_CFLAGS) $(libs)
ifneq ($(file <$(B)/flags),$(FLAGS))
made  := $(if $(wildcard $(B)/flags),,yes)
$(shell mkdir -p $(B))
$(file >$(B)/flags,$(FLAGS))
$(if $(made),$(shell touch -d @0 $(B)/flags))
endif

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) $(cppflags) $(cflags) $(if $(filter $(strict_rooms),$(*D)),$(STRICT)) \
	    $(if $(filter dist,$(*D)),$(MPI_CFLAGS)) -MMD -MP -c $< -o $@

define room_rule
$(call archive,$(1)): $(patsubst %.c,$(B)/%.o,$(call sources,$(1)))
	@rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rule,$(r))))

# link LIBRARIES: a program of the objects and archives that it depends on
link = $(call say,LD,$@)mkdir -p $(@D) && $(CC) $(CFLAGS) $(cflags) $(LDFLAGS) -o $@ $^ $(libs) -Wl,--as-needed $(HTTP_LIBS) $(1)

# A program that is too long for one file has its further parts in the folder of its name: those of
# tools/rhetor-data.c in tools/data/.
program = $(BIN)/$(if $(filter tools/%,$(1)),$(notdir $(1)),rhetor-$(notdir $(1)))
parts   = $(1).c $(wildcard $(patsubst tools/rhetor-%,tools/%,$(1))/*.c)
PROGRAMS := $(foreach m,$(MAINS),$(call program,$(m)))
define program_rule
$(call program,$(1)): $(patsubst %.c,$(B)/%.o,$(call parts,$(1))) $(call archives,$(USES_tools))
	$$(link)
endef
$(foreach m,$(MAINS),$(eval $(call program_rule,$(m))))

# A unit test of a room links with that room and those it may use, no others.
define test_rule
$(B)/tests/$(1)/test_%: $(B)/tests/$(1)/test_%.o $(call archives,$(USES_$(1)))
	$$(call link,$(CMOCKA_LIBS))
endef
$(foreach r,$(ROOMS) e2e faults,$(eval $(call test_rule,$(r))))

$(FUZZERS): %: %.o $(call archives,$(USES_fuzz))
	$(link)
.SECONDARY:

.PHONY: all
.DEFAULT_GOAL := all
all: $(PROGRAMS)
ifneq ($(no_http),)
	@echo "not built, for want of$(patsubst %, %,$(no_http)): rhetor-label rhetor-serve (make deps)"
endif

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# --- the rest ------------------------------------------------------------------------------------
.PHONY: deps demo lab test test-faults test-slurm test-web objects bench bench-peers lint format asan fuzz docs install deb test-build clean plugin real-small smollm2 uses
T    ?=
SEED ?= 1
J     = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# The pages are put into the program by the assembler.
$(B)/serve/http/pages.o: $(wildcard serve/pages/*)

# Without the packages only these can do anything useful; of the others, say it before gcc does.
ifneq ($(filter-out deps demo lab test test-faults test-slurm test-web real-small smollm2 asan fuzz lint format deb test-build clean uses,$(or $(MAKECMDGOALS),all)),)
ifneq ($(filter-out CMOCKA MICROHTTPD SQLITE,$(MISSING)),)
$(shell $(said) tools/detect.sh --missing)
$(error libraries are missing; "make deps" installs them on Debian)
endif
endif

# test, demo and real-small go on in a second make: the variables above have asked pkg-config
# before the packages came.
deps:
	@tools/deps.sh

test: deps
	+@MAKE="$(MAKE)" CC="$(CC)" VARIANT="$(VARIANT)" tests/run.sh "$(T)"

# Installs slurm-wlm and munge where they are missing; skipped, with the reason, where that cannot be.
test-slurm: deps
	+@$(MAKE) --no-print-directory -s $(J) all
	@tests/slurm/run.sh

# Installs chromium, its driver and python3-selenium where they are missing.
test-web: deps
	+@$(MAKE) --no-print-directory -s $(J) all
	@tests/web/run.sh $(PICTURES)

demo: deps
	+@$(MAKE) --no-print-directory -s $(J) all
	@$(BIN)/rhetor-pipeline configs/demo --seed $(SEED)

# A base that cannot read says nothing about alignment: then the rest is not begun.
LABS ?= headline epochs rankings pairs overopt penalty tax seeds
lab: deps
	+@$(MAKE) --no-print-directory -s $(J) all
	@$(BIN)/rhetor-lab configs/lab/competence.yaml --expect
	@$(BIN)/rhetor-lab $(patsubst %,configs/lab/%.yaml,competence $(LABS))

# DATA: a folder as ../shared/data lays it out
real-small: deps
	@test -d "$(DATA)" || { echo "usage: make real-small DATA=DIR" >&2; exit 64; }
	+@$(MAKE) --no-print-directory -s $(J) all
	@$(BIN)/rhetor-pipeline configs/real-small --data "$(DATA)"

# GGUF: SmolLM2-135M-Instruct as llama.cpp has it; DATA: sentiment/sentence_polarity.jsonl in it
smollm2: deps
	@test -f "$(GGUF)" -a -d "$(DATA)" || { echo "usage: make smollm2 GGUF=FILE DATA=DIR" >&2; exit 64; }
	+@$(MAKE) --no-print-directory -s $(J) all
	@GGUF="$(abspath $(GGUF))" $(BIN)/rhetor-pipeline configs/smollm2-sentiment --data "$(DATA)"

bench: all
	@$(BIN)/rhetor-bench --all

# Installs PyTorch and others in a virtual environment outside the tree, and compares.
bench-peers: all
	@RHETOR_BIN=$(abspath $(BIN)) tests/peers/run.sh $(PEERS)

# The unit tests, and the scripts that ask for it, with AddressSanitizer and UBSan.
asan: deps
	+@MAKE="$(MAKE)" CC="$(CC)" VARIANT=asan tests/run.sh "$(T)"
ifeq ($(VARIANT),asan)
$(PROGRAMS) $(TESTS) $(FUZZERS): $(B)/tests/keep_plugins.o
endif

# tests/faults/run.sh says what fails; it takes long, FAULTS=quick is part of make test.
FAULTS ?= full
test-faults: deps
	+@$(MAKE) --no-print-directory -s $(J) all $(B)/tests/faults/test_flips
	@FAULTS="$(FAULTS)" T="$(T)" SEED="$(SEED)" tests/faults/run.sh

# tests/fuzz/fuzz.h says how a target is written; the tests run each for two seconds.
FUZZ_SECONDS ?= 60
FUZZ_SEED    ?= $(shell date +%s)
fuzz: deps
	+@MAKE="$(MAKE)" CC="$(CC)" VARIANT=asan FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) \
	    tests/run.sh "fuzz/fuzz_$(T)"

# docs/CONFIG.md comes from the table of settings, the tables of docs/SCALING.md from rhetor-plan;
# tests/e2e/test_docs.sh and test_plan.sh compare.
docs: $(BIN)/rhetor $(BIN)/rhetor-plan $(BIN)/rhetor-data
	$(BIN)/rhetor --settings > docs/CONFIG.md
	tools/world.sh $(abspath $(BIN)) docs/WORLD.md > docs/WORLD.md.new && mv docs/WORLD.md.new docs/WORLD.md
	tools/scaling.sh $(abspath $(BIN)) > docs/SCALING.md.new && mv docs/SCALING.md.new docs/SCALING.md

objects: $(patsubst %.c,$(B)/%.o,$(wildcard $(FOLDERS:%=%/*.c) tools/*.c tools/*/*.c tests/*/*.c))

lint:
	+@MAKE="$(MAKE)" tools/lint.sh

format:
	clang-format -i $(wildcard $(FOLDERS:%=%/*.[ch]) tools/*.[ch] tools/*/*.[ch] tests/*/*.[ch])

# The USES_ table, for tools/lint.sh: room, its folder, what it may use.
uses:
	@$(foreach r,$(ROOMS) tools e2e fuzz faults,echo "$(r) $(call folder,$(r)) $(USES_$(r))";)

# HDF5's filter 32015 for programs with an HDF5 of their own: HDF5_PLUGIN_PATH=build/plugin. Any
# compiler and variant give the same file; it shows nothing but its two entry points.
plugin: build/plugin/libh5zstd.so
build/plugin/libh5zstd.so: base/h5/h5_zstd.c base/h5/chunk.c base/error.c $(wildcard base/*.h base/h5/*.h) Makefile
	@mkdir -p $(@D)
	$(CC) $(cppflags) -DRHETOR_PLUGIN -std=gnu11 -O2 $(WARN) -fPIC -fvisibility=hidden -shared \
	    -o $@ $(filter %.c,$^) $(filter %zstd -L%,$(DEPS_LIBS))

# Man pages, completion and module file come from the programs' --help, so they must run here.
$(B)/share/made: $(PROGRAMS) $(wildcard packaging/*.*)
	@packaging/share.sh $(BIN) $(@D) && touch $@

# The programs find share/rhetor from their own place: the folder may be moved.
install: all $(B)/share/made
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/rhetor $(DESTDIR)$(PREFIX)/share/doc/rhetor
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	cp -R configs $(DESTDIR)$(PREFIX)/share/rhetor/
	cp -R $(addprefix $(B)/share/,man bash-completion modulefiles) $(DESTDIR)$(PREFIX)/share/
	install -m 644 $(wildcard README.md LICENSE THIRD_PARTY.md docs/*.md) $(DESTDIR)$(PREFIX)/share/doc/rhetor

# A copy of the tree is built, with packaging/debian as its debian/.
deb:
	rm -rf build/deb && mkdir -p build/deb/rhetor-$(VERSION)
	tar -c --exclude-vcs --exclude=./build --exclude=./bin --exclude=./runs . | tar -x -C build/deb/rhetor-$(VERSION)
	cp -R packaging/debian build/deb/rhetor-$(VERSION)/
	cd build/deb/rhetor-$(VERSION) && dpkg-buildpackage -us -uc -b
	mv build/deb/rhetor_*.deb build/
	! command -v lintian >/dev/null || lintian --allow-root --fail-on error,warning build/rhetor_$(VERSION)_*.deb

test-build:
	@packaging/test-build.sh $(T)

clean:
	rm -rf build bin
