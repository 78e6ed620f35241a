# gdb's commands. gdb loads the script by itself with a library whose path the name of the script repeats,
# when datadir is its own: see kstacksim-gdb(7).
gdbdir = $(datadir)/gdb/auto-load$(libdir)
gdb_DATA = tools/gdb/libkstacksim.so.0.0.0-gdb.py
gdbmodulesdir = $(pkgdatadir)/gdb/kstacksim_gdb
dist_gdbmodules_DATA = \
	tools/gdb/kstacksim_gdb/__init__.py \
	tools/gdb/kstacksim_gdb/base.py \
	tools/gdb/kstacksim_gdb/commands.py \
	tools/gdb/kstacksim_gdb/core.py \
	tools/gdb/kstacksim_gdb/frames.py \
	tools/gdb/kstacksim_gdb/kstack.py \
	tools/gdb/kstacksim_gdb/model.py
EXTRA_DIST += tools/gdb/kstacksim-gdb.py
CLEANFILES += $(gdb_DATA)

tools/gdb/libkstacksim.so.0.0.0-gdb.py: tools/gdb/kstacksim-gdb.py Makefile
	$(AM_V_GEN)$(MKDIR_P) tools/gdb && \
	sed 's|@modules@|$(pkgdatadir)/gdb|' $(top_srcdir)/tools/gdb/kstacksim-gdb.py > $@
