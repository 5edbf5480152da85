# nwmerge: `make demo` and `make test` do everything, setup included; `make help` names the rest.
#
#   V=1                shows the commands          SANITIZE=address,undefined    builds with those sanitizers
#   BUILD=dir          builds somewhere else       WERROR=1                      makes warnings errors
#   CC=clang           another compiler            TLS=no                        leaves TLS out where hiredis has it
#   LTO=no             leaves out link-time optimisation (gcc only)
#   PREFIX= DESTDIR=   where install puts things   SETUP=no                      demo and test install no packages
#
# CFLAGS, CPPFLAGS, LDFLAGS and LDLIBS are the user's: what the build itself needs is kept apart from them.

VERSION := 0.1.0

BUILD   ?= build
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man
DOCDIR  ?= $(PREFIX)/share/doc/nwmerge
INSTALL ?= install
CFLAGS  ?= -O2 -g
CXXFLAGS ?= $(CFLAGS)
PKG_CONFIG ?= pkg-config
CLANG   ?= clang
CLANG_FORMAT ?= clang-format
CPPCHECK ?= cppcheck
# How long each fuzz target runs.
SECONDS = 20

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

ifneq ($(V),1)
Q := @
say = @printf '  %-8s %s\n' '$(1)' '$(2)'
endif
CPUS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# A make for a goal of ours, on all processors unless the user chose.
submake = @+$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(CPUS))

# ---------------------------------------------------------------- libraries

pkg = $(shell $(PKG_CONFIG) $(1) 2>/dev/null)
has = $(shell $(PKG_CONFIG) --exists $(1) 2>/dev/null && echo yes)
# pkg-config name:Debian package
PACKAGES      := hiredis:libhiredis-dev libevent_core:libevent-dev inih:libinih-dev libxxhash:libxxhash-dev
TEST_PACKAGES := criterion:libcriterion-dev

TLS ?= auto
ifneq ($(filter-out auto no,$(TLS)),)
$(error TLS=$(TLS): auto and no are known)
endif
ifeq ($(TLS)$(call has,hiredis_ssl),autoyes)
PACKAGES  += openssl:libssl-dev
TLS_CPPFLAGS := -DNWM_TLS=1 $(call pkg,--cflags hiredis_ssl openssl)
TLS_LIBS  := $(call pkg,--libs hiredis_ssl openssl)
endif

SHARED_CFLAGS := $(call pkg,--cflags hiredis inih libxxhash) $(TLS_CPPFLAGS)
EVENT_CFLAGS  := $(call pkg,--cflags libevent_core)
TEST_CFLAGS   := $(call pkg,--cflags criterion)
SHARED_LIBS   := $(TLS_LIBS) $(call pkg,--libs hiredis inih libxxhash) -lm
EVENT_LIBS    := $(call pkg,--libs libevent_core)
TEST_LIBS     := $(call pkg,--libs criterion)

# ---------------------------------------------------------------- flags

comma := ,
SANITIZE ?=
SANITIZERS := $(subst $(comma), ,$(SANITIZE))
ifneq ($(filter-out address undefined leak thread,$(SANITIZERS)),)
$(error SANITIZE=$(SANITIZE): address, undefined, leak and thread are known, separated by commas)
endif

NWM_CPPFLAGS := -I. -D_GNU_SOURCE -DNWM_VERSION='"$(VERSION)"'
NWM_WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wpointer-arith -Wvla
NWM_CFLAGS   := -std=c11 -pthread -fPIE -fstack-protector-strong
NWM_LDFLAGS  := -pthread -pie -Wl,-z,relro,-z,now -Wl,--as-needed
ifeq ($(WERROR),1)
NWM_WARNINGS += -Werror
endif
ifneq ($(SANITIZERS),)
NWM_CFLAGS  += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
NWM_LDFLAGS += -fsanitize=$(SANITIZE)
else ifneq ($(filter -O1 -O2 -O3 -Os -O -Ofast,$(CFLAGS)),)
NWM_CPPFLAGS += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif

# Norms, heap and sink are modules of their own, and their calls in the merge's inner loop are what link-time optimisation takes
# away (N: 59 ns an item without, 56 with). Only the programs are linked so; the objects serve the tests as they are.
LTO ?= $(if $(SANITIZERS),no,$(if $(findstring Free Software,$(shell $(CC) --version 2>/dev/null)),auto,no))
ifneq ($(LTO),no)
LTO_CFLAGS := -flto -ffat-lto-objects
LTO_LDFLAGS := -flto=$(LTO)
# Without this gcc's linker plugin would do it for the tests too, program by program.
TEST_LDFLAGS := -fno-use-linker-plugin
endif

compile = $(CC) $(NWM_CPPFLAGS) $(CPPFLAGS) $(NWM_CFLAGS) $(NWM_WARNINGS) $(CFLAGS) -MMD -MP
link    = $(CC) $(NWM_CFLAGS) $(CFLAGS) $(NWM_LDFLAGS) $(LDFLAGS)

# ---------------------------------------------------------------- files

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

SHARED := $(wildcard shared/*.c)
WORKER := $(filter-out worker/main.c,$(wildcard worker/*.c))
MERGER := $(filter-out merger/main.c,$(wildcard merger/*.c))
PROGRAMS := $(if $(wildcard worker/main.c),$(BUILD)/nwm-worker) $(if $(wildcard merger/main.c),$(BUILD)/nwm-merger)
ARCHIVES := $(BUILD)/libworker.a $(BUILD)/libmerger.a $(BUILD)/libshared.a
MANUALS  := $(wildcard worker/nwm-worker.1 merger/nwm-merger.1)

UNIT_TESTS   := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
SYSTEM_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/system/test_*.c))
SYSTEM_TOOLS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/system/tool_*.c))
SYSTEM_SHIMS := $(patsubst %.c,$(BUILD)/%.so,$(wildcard tests/system/shim_*.c))
UNIT_HELPERS   := $(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c))
SYSTEM_HELPERS := $(filter-out tests/system/test_% tests/system/tool_% tests/system/shim_%,$(wildcard tests/system/*.c))
BENCH := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c)) $(patsubst %.cc,$(BUILD)/%,$(wildcard tests/bench/*.cc))
FUZZ  := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
SCRIPTS := $(wildcard config/setup config/demo tests/run tests/valgrind tests/fuzz/run tests/bench/run tests/system/faults tests/system/chaos tests/system/soak .ci/run)
C_FILES := $(wildcard shared/*.[ch] worker/*.[ch] merger/*.[ch] tests/*/*.[ch])

all: $(PROGRAMS)

help:
	@sed -n 's/^# \{0,1\}//;1,8p' Makefile
	@echo 'Goals: all demo test check lint install uninstall dist clean bench faults chaos soak valgrind fuzz'

# A change of compiler, flags or version rebuilds: they are in this file, which every object depends on and which is
# written only when its content changes.
define FLAGS :=
$(shell $(CC) --version 2>/dev/null | head -1)
$(compile) $(LTO_CFLAGS)
$(link) $(LTO_LDFLAGS)
$(SHARED_CFLAGS) $(EVENT_CFLAGS) $(TEST_CFLAGS)
$(SHARED_LIBS) $(EVENT_LIBS) $(TEST_LIBS) $(LDLIBS)
endef
export FLAGS

$(BUILD)/flags: FORCE
	@$(call need,$(PACKAGES))
	@mkdir -p $(@D); printf '%s\n' "$$FLAGS" | cmp -s - $@ || printf '%s\n' "$$FLAGS" >$@

$(BUILD)/test-packages: | $(BUILD)/flags
	@$(call need,$(TEST_PACKAGES))
	@touch $@

# Says which package is missing, and how to get it.
define need
command -v $(firstword $(CC)) >/dev/null || { echo "nwmerge: the C compiler $(firstword $(CC)) is missing (Debian: gcc)." >&2; \
  echo "         config/setup build installs what the build needs." >&2; exit 1; }; \
command -v $(PKG_CONFIG) >/dev/null || { echo "nwmerge: $(PKG_CONFIG) is missing (Debian: pkg-config)." >&2; \
  echo "         config/setup build installs what the build needs." >&2; exit 1; }; \
missing=0; for pair in $(1); do $(PKG_CONFIG) --exists "$${pair%%:*}" || { missing=1; \
  echo "nwmerge: the library $${pair%%:*} is missing (Debian: $${pair##*:})." >&2; }; done; \
[ $$missing = 0 ] || { echo "         config/setup installs what build, demo and tests need." >&2; exit 1; }
endef

# ---------------------------------------------------------------- programs

$(BUILD)/obj/tests/%.o: private SHARED_CFLAGS += $(EVENT_CFLAGS) $(TEST_CFLAGS) -DNWM_SOURCE='"$(CURDIR)"'
$(BUILD)/obj/merger/%.o: private SHARED_CFLAGS += $(EVENT_CFLAGS) $(LTO_CFLAGS)
$(BUILD)/obj/worker/%.o $(BUILD)/obj/shared/%.o: private SHARED_CFLAGS += $(LTO_CFLAGS)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(compile) $(SHARED_CFLAGS) -c -o $@ $<

# Made anew each time, so that a module that was removed does not live on in its archive. A list of the members makes
# the archive depend on which modules there are.
define archive
$$(BUILD)/lib$(1).a: $$(call objects,$$($(2))) $$(BUILD)/lib$(1).members
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@; $$(AR) rcs $$@ $$(filter %.o,$$^)
$$(BUILD)/lib$(1).members: FORCE $$(BUILD)/flags
	@echo '$$($(2))' | cmp -s - $$@ || echo '$$($(2))' >$$@
endef
$(eval $(call archive,shared,SHARED))
$(eval $(call archive,worker,WORKER))
$(eval $(call archive,merger,MERGER))

$(BUILD)/nwm-worker: $(BUILD)/obj/worker/main.o $(BUILD)/libworker.a $(BUILD)/libshared.a
	$(call say,LINK,$@)
	$(Q)$(link) $(LTO_LDFLAGS) -o $@ $^ $(SHARED_LIBS) $(LDLIBS)

$(BUILD)/nwm-merger: $(BUILD)/obj/merger/main.o $(BUILD)/libmerger.a $(BUILD)/libshared.a
	$(call say,LINK,$@)
	$(Q)$(link) $(LTO_LDFLAGS) -o $@ $^ $(SHARED_LIBS) $(EVENT_LIBS) $(LDLIBS)

# ---------------------------------------------------------------- tests

$(BUILD)/obj/tests/unit/%.o $(BUILD)/obj/tests/system/%.o: | $(BUILD)/test-packages

$(UNIT_TESTS): $(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(call objects,$(UNIT_HELPERS)) $(ARCHIVES)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(link) $(TEST_LDFLAGS) -o $@ $^ $(SHARED_LIBS) $(EVENT_LIBS) $(TEST_LIBS) $(LDLIBS)

$(SYSTEM_TESTS): $(BUILD)/tests/system/%: $(BUILD)/obj/tests/system/%.o $(call objects,$(SYSTEM_HELPERS)) $(ARCHIVES)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(link) $(TEST_LDFLAGS) -o $@ $^ $(SHARED_LIBS) $(EVENT_LIBS) $(TEST_LIBS) $(LDLIBS)

$(SYSTEM_TOOLS) $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c)): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(ARCHIVES)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(link) $(TEST_LDFLAGS) -o $@ $^ $(SHARED_LIBS) $(EVENT_LIBS) $(LDLIBS)

$(BUILD)/tests/bench/%: tests/bench/%.cc $(ARCHIVES)
	$(call say,CXX,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(NWM_CPPFLAGS) $(CPPFLAGS) $(CXXFLAGS) $(NWM_LDFLAGS) $(LDFLAGS) -fPIE $(SHARED_CFLAGS) -o $@ $^ $(SHARED_LIBS) $(LDLIBS)

# What tests put between a program and the C library (LD_PRELOAD); without sanitizers, which must come first.
$(SYSTEM_SHIMS): $(BUILD)/tests/%.so: tests/%.c $(BUILD)/flags
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(NWM_CPPFLAGS) $(CPPFLAGS) -std=c11 -O1 -fPIC -shared $(NWM_WARNINGS) -o $@ $<

# All test programs, without running them.
tests: all $(UNIT_TESTS) $(SYSTEM_TESTS) $(SYSTEM_TOOLS) $(SYSTEM_SHIMS)

setup:
	@config/setup build demo test

test: setup
	$(submake) check

check:
	$(submake) tests
	@BUILD='$(BUILD)' tests/run $(UNIT_TESTS) -- $(SYSTEM_TESTS)

# The system tests, with both programs under valgrind: a quarter of an hour.
valgrind: setup
	@config/setup valgrind
	$(submake) tests
	@BUILD='$(BUILD)' tests/valgrind $(SYSTEM_TESTS)

demo: setup
	$(submake) all
	@config/demo $(BUILD)

# ---------------------------------------------------------------- measuring and breaking

# script: runs it, or says that it is not there.
script = @if [ -x $(1) ]; then BUILD='$(BUILD)' $(1); else echo 'nwmerge: $(1) is not there (yet), so there is no make $@.' >&2; exit 1; fi

bench:
	@config/setup build demo bench
	$(submake) all bench-programs
	$(call script,tests/bench/run)
bench-programs: $(BENCH)

faults: setup
	$(submake) all $(SYSTEM_TOOLS) $(SYSTEM_SHIMS)
	$(call script,tests/system/faults)

chaos: setup
	$(submake) all $(SYSTEM_TOOLS) $(SYSTEM_SHIMS)
	$(call script,tests/system/chaos)

soak: setup
	$(submake) all $(SYSTEM_TOOLS) $(SYSTEM_SHIMS)
	$(call script,tests/system/soak)

# Everything is compiled once more, by clang, with coverage for the fuzzer.
FUZZ_CFLAGS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_OBJECTS := $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(SHARED) $(WORKER) $(MERGER))

$(BUILD)/fuzz/obj/%.o: %.c $(BUILD)/flags
	$(call say,FUZZ-CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(filter-out -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2,$(NWM_CPPFLAGS)) $(SHARED_CFLAGS) $(EVENT_CFLAGS) -std=c11 -pthread \
	    $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/libfuzzed.a: $(FUZZ_OBJECTS)
	$(Q)rm -f $@; $(AR) rcs $@ $^

$(FUZZ): $(BUILD)/fuzz/%: $(BUILD)/fuzz/obj/tests/fuzz/%.o $(BUILD)/fuzz/libfuzzed.a
	$(call say,FUZZ-LD,$@)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer -pthread -o $@ $^ $(SHARED_LIBS) $(EVENT_LIBS)

fuzz-programs: $(FUZZ)

fuzz:
	@config/setup build fuzz
	$(submake) fuzz-programs
	@BUILD='$(BUILD)' tests/fuzz/run $(SECONDS) $(FUZZ)

# Formats all sources in place.
format:
	$(Q)$(CLANG_FORMAT) -i $(C_FILES)

lint:
	@config/setup lint
	$(call say,FORMAT,$(words $(C_FILES)) files)
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)
	$(call say,CPPCHECK,$(words $(filter %.c,$(C_FILES))) files)
	$(Q)$(CPPCHECK) --quiet --std=c11 --language=c --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    --suppressions-list=.cppcheck -j$(CPUS) -I. -D_GNU_SOURCE -DNWM_VERSION='""' $(filter-out tests/%,$(filter %.c,$(C_FILES)))
	$(call say,MANUALS,$(MANUALS))
	$(Q)mandoc -T lint -W warning $(MANUALS)
	$(call say,SHELL,$(SCRIPTS))
	$(Q)shellcheck -S warning $(SCRIPTS)

# ---------------------------------------------------------------- installing

install: all
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(DOCDIR)
	$(INSTALL) -m 755 $(PROGRAMS) $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 $(MANUALS) $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 644 $(wildcard README.md LICENSE config/nwmerge.conf config/users.acl) $(DESTDIR)$(DOCDIR)

uninstall:
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,nwm-worker nwm-merger)
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man1/,nwm-worker.1 nwm-merger.1)
	rm -f $(addprefix $(DESTDIR)$(DOCDIR)/,README.md LICENSE nwmerge.conf users.acl)
	-rmdir $(DESTDIR)$(DOCDIR) 2>/dev/null

# What is committed, as a package for those without git.
dist:
	@mkdir -p $(BUILD)
	git archive --format=tar.gz --prefix=nwmerge-$(VERSION)/ -o $(BUILD)/nwmerge-$(VERSION).tar.gz HEAD
	@echo '$(BUILD)/nwmerge-$(VERSION).tar.gz'

# Only a directory that this Makefile filled is removed.
clean:
	@if [ -e '$(BUILD)/flags' ]; then rm -rf '$(BUILD)'; \
	elif [ -e '$(BUILD)' ]; then echo "nwmerge: $(BUILD) is not a build of this Makefile; left alone." >&2; fi

FORCE:
.PHONY: all help tests setup test check demo bench bench-programs faults chaos soak valgrind fuzz fuzz-programs format lint install uninstall dist clean FORCE
.SECONDARY:

-include $(shell find $(BUILD)/obj $(BUILD)/fuzz/obj -name '*.d' 2>/dev/null)
