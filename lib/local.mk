# The kernel: it sees include/ and lib/, and no host.
noinst_LTLIBRARIES += lib/libkernel.la
lib_libkernel_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(BSD_CFLAGS)
lib_libkernel_la_CFLAGS = $(AM_CFLAGS)
lib_libkernel_la_SOURCES = \
	lib/kernel.h \
	lib/platform.h \
	lib/picture.h \
	lib/sanitizer.h \
	lib/sched_class.h \
	lib/sleeper.h \
	lib/arena.c \
	lib/atomic.c \
	lib/bitmap.c \
	lib/check.c \
	lib/completion.c \
	lib/condvar.c \
	lib/console_driver.c \
	lib/cpu.c \
	lib/disk_driver.c \
	lib/dsq.c \
	lib/dump.c \
	lib/error.c \
	lib/exit.c \
	lib/fault.c \
	lib/file.c \
	lib/handle.c \
	lib/histogram.c \
	lib/host.c \
	lib/irq.c \
	lib/irq_route.c \
	lib/irq_storm.c \
	lib/kdraw.c \
	lib/kstack.c \
	lib/kstack_guard.c \
	lib/kthread.c \
	lib/ktimer.c \
	lib/kview.c \
	lib/latency.c \
	lib/latency_text.c \
	lib/lockdep.c \
	lib/machine.c \
	lib/mutex.c \
	lib/narrate.c \
	lib/percpu.c \
	lib/picture.c \
	lib/picture_layout.c \
	lib/picture_of.c \
	lib/picture_svg.c \
	lib/preempt.c \
	lib/process.c \
	lib/profile.c \
	lib/profile_text.c \
	lib/profile.h \
	lib/report.c \
	lib/report_json.c \
	lib/report_kinds.c \
	lib/report_text.c \
	lib/rwlock.c \
	lib/runqueue.c \
	lib/ipi.c \
	lib/hotplug.c \
	lib/sched.c \
	lib/sched_api.c \
	lib/sched_eject.c \
	lib/sched_guard.c \
	lib/sched_priority.c \
	lib/sched_rr.c \
	lib/semaphore.c \
	lib/seqlock.c \
	lib/sleeper.c \
	lib/softirq.c \
	lib/spinlock.c \
	lib/stats.c \
	lib/state.c \
	lib/syscall.c \
	lib/thread.c \
	lib/timer.c \
	lib/trace.c \
	lib/trap.c \
	lib/uaccess.c \
	lib/ustub.c \
	lib/waitq.c \
	lib/watchdog.c \
	lib/work.c

lib_LTLIBRARIES += libkstacksim.la
libkstacksim_la_SOURCES =
libkstacksim_la_LIBADD = lib/libkernel.la sim/libmachine.la $(UNWIND_LIBS) -lpthread
# Bound at load: lazy binding would save the vector state on a kernel stack, at the first call of each
# libc function, and spoil the high-water mark.
libkstacksim_la_LDFLAGS = -version-info 0:0:0 -no-undefined -Wl,-z,now \
	-Wl,--version-script=$(top_srcdir)/lib/libkstacksim.map
EXTRA_libkstacksim_la_DEPENDENCIES = $(top_srcdir)/lib/libkstacksim.map
EXTRA_DIST += lib/libkstacksim.map
