# Examples see include/ only. Not installed: people read them and copy.
EXAMPLES_LIBS = libkstacksim.la
noinst_PROGRAMS += examples/preempted_write
examples_preempted_write_SOURCES = examples/preempted_write.c examples/pw.h examples/pw_processes.c \
	examples/pw_show.c examples/table.c examples/table.h
examples_preempted_write_LDADD = $(EXAMPLES_LIBS) $(SMARTCOLS_LIBS)
examples_preempted_write_CPPFLAGS = $(AM_CPPFLAGS) $(SMARTCOLS_CFLAGS)
if HAVE_SMARTCOLS
examples_preempted_write_CPPFLAGS += -DHAVE_SMARTCOLS
endif
