# The program: it sees include/ only, like everybody else. The scenarios are a library, so that the tests can have them.
bin_PROGRAMS += kstacksim
noinst_LTLIBRARIES += tools/libfaults.la
tools_libfaults_la_SOURCES = tools/faults.h tools/faults_x86_64.h tools/faults_catalogue.c tools/faults_run.c \
	tools/faults_neighbours.c tools/faults_check.c tools/faults_stack.c tools/faults_trap.c \
	tools/faults_irq.c tools/faults_sched.c tools/faults_lock.c tools/faults_memory.c tools/faults_api.c \
	tools/faults_eject.c
tools_libfaults_la_LIBADD = tools/libsmash.la
noinst_LTLIBRARIES += tools/libsmash.la
tools_libsmash_la_SOURCES = tools/faults_smash.c tools/faults_smash.h
tools_libsmash_la_CFLAGS = $(AM_CFLAGS) -fstack-protector-all
kstacksim_SOURCES = tools/kstacksim.c tools/kstacksim.h tools/faults_cmd.c tools/faults_json.c \
	tools/faults_json.h examples/table.c examples/table.h tools/stack.h tools/stack.c tools/stack_demo.c \
	tools/stack_json.c tools/stack_gdb.c tools/stack_usage.c
kstacksim_CPPFLAGS = $(AM_CPPFLAGS) $(SMARTCOLS_CFLAGS) $(JANSSON_CFLAGS) \
	-DGDB_SCRIPT='"$(datadir)/gdb/auto-load$(libdir)/libkstacksim.so.0.0.0-gdb.py"'
if HAVE_SMARTCOLS
kstacksim_CPPFLAGS += -DHAVE_SMARTCOLS
endif
if HAVE_JANSSON
kstacksim_CPPFLAGS += -DHAVE_JANSSON
endif
kstacksim_LDADD = tools/libfaults.la libkstacksim.la $(SMARTCOLS_LIBS) $(JANSSON_LIBS) -lpthread

# Not part of make check: some minutes.
.PHONY: soak-faults
soak-faults: kstacksim
	./kstacksim faults --all --repeat 200
	./kstacksim faults --all --repeat 200 --tick 10000
