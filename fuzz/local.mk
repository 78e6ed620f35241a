# The fuzzer. Its function is in fuzz/replay too, which make check feeds the corpus; configure --enable-fuzzers makes
# fuzz/fuzz_api, which finds inputs of its own: fuzz/fuzz_api -max_total_time=60 CORPUS
FUZZ_SOURCES = fuzz/fuzz_api.c fuzz/fuzz.h fuzz/class.c fuzz/host.c fuzz/kernel.c fuzz/look.c fuzz/numbers.c \
	fuzz/user.c
check_PROGRAMS += fuzz/replay
fuzz_replay_SOURCES = $(FUZZ_SOURCES) fuzz/replay.c
fuzz_replay_LDADD = libkstacksim.la -lpthread

if ENABLE_FUZZERS
noinst_PROGRAMS += fuzz/fuzz_api
fuzz_fuzz_api_SOURCES = $(FUZZ_SOURCES)
# One program, bound at load: coverage counters of a shared library are not seen.
fuzz_fuzz_api_LDFLAGS = $(AM_LDFLAGS) -static -Wl,-z,now -fsanitize=fuzzer
fuzz_fuzz_api_LDADD = libkstacksim.la -lpthread
endif

dist_check_SCRIPTS += fuzz/corpus.sh
TESTS += fuzz/corpus.sh
EXTRA_DIST += fuzz/make-corpus.sh
