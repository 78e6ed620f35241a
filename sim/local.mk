# The hosted machines: they see include/, lib/platform.h and sim/, and no policy.
noinst_LTLIBRARIES += sim/libmachine.la
sim_libmachine_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/sim -I$(top_srcdir)/lib $(UNWIND_CFLAGS) \
	-DKSSI_GDB_SCRIPT='"$(gdbdir)/libkstacksim.so.0.0.0-gdb.py"'
sim_libmachine_la_CFLAGS = $(AM_CFLAGS)
sim_libmachine_la_CCASFLAGS = $(AM_CCASFLAGS)
sim_libmachine_la_SOURCES = \
	sim/arch.h \
	sim/hot.h \
	sim/hw.h \
	sim/console.c \
	sim/context_ucontext.c \
	sim/disk.c \
	sim/hostcall.c \
	sim/hostframes.c \
	sim/intc.c \
	sim/live.c \
	sim/pin.c \
	sim/protect.c \
	sim/sanitizer.c \
	sim/signal.c \
	sim/stackmem.c \
	sim/stackprotect.c \
	sim/timer_live.c \
	sim/unwind.c
if ARCH_X86_64
sim_libmachine_la_SOURCES += sim/arch_x86_64.c sim/entry_x86_64.S sim/frame_x86_64.c sim/frame_x86_64.h
endif
