# make bench: built and run on demand; figures are for reading, nothing fails on them.
EXTRA_PROGRAMS = bench/kss_bench
CLEANFILES += $(EXTRA_PROGRAMS)
bench_kss_bench_SOURCES = bench/kss_bench.c bench/bench.h bench/output.c bench/raw.c bench/raw.h \
	bench/raw_smp.c bench/sim.c bench/smp.c
bench_kss_bench_CPPFLAGS = $(AM_CPPFLAGS) $(SMARTCOLS_CFLAGS)
bench_kss_bench_LDADD = libkstacksim.la $(SMARTCOLS_LIBS) -lpthread

.PHONY: bench
bench: bench/kss_bench
	./bench/kss_bench
