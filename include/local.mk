kssincludedir = $(includedir)/kstacksim
kssinclude_HEADERS = \
	include/kstacksim/common.h \
	include/kstacksim/device.h \
	include/kstacksim/host.h \
	include/kstacksim/irq.h \
	include/kstacksim/kstack.h \
	include/kstacksim/kstacksim.h \
	include/kstacksim/kthread.h \
	include/kstacksim/locks.h \
	include/kstacksim/machine.h \
	include/kstacksim/picture.h \
	include/kstacksim/process.h \
	include/kstacksim/latency.h \
	include/kstacksim/profile.h \
	include/kstacksim/report.h \
	include/kstacksim/sched.h \
	include/kstacksim/smp.h \
	include/kstacksim/sync.h \
	include/kstacksim/syscall.h \
	include/kstacksim/timer.h \
	include/kstacksim/trace.h \
	include/kstacksim/trap.h \
	include/kstacksim/uaccess.h \
	include/kstacksim/work.h
nodist_kssinclude_HEADERS = include/kstacksim/version.h
