# REQ C3: make check and make distcheck run all of this.
# Tests of behaviour see include/ only, like everybody else.
if HAVE_CHECK
check_LTLIBRARIES = tests/libharness.la
tests_libharness_la_SOURCES = tests/harness.c tests/harness.h
tests_libharness_la_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
TEST_LIBS = tests/libharness.la libkstacksim.la $(CHECK_LIBS)

LIVE_TESTS = tests/live_stack tests/live_preempt tests/live_trap tests/live_irq \
	tests/live_process tests/live_device tests/live_kill tests/live_watchdog tests/live_guard
LIVE_TESTS += tests/live_lock tests/live_order tests/live_atomic tests/live_picture tests/live_profile
LIVE_TESTS += tests/live_asan tests/live_protect
LIVE_TESTS += tests/live_softirq tests/live_softirq_misuse tests/live_depths tests/live_vstack
LIVE_TESTS += tests/live_eject
LIVE_TESTS += tests/live_nested
LIVE_TESTS += tests/live_host tests/live_host_storm
LIVE_TESTS += tests/live_wake
tests_live_wake_LDADD = $(TEST_LIBS) -lpthread
LIVE_TESTS += tests/live_route tests/live_storm tests/live_latency
LIVE_TESTS += tests/live_kthread tests/live_timer tests/live_work
LIVE_TESTS += tests/live_locks_spin tests/live_locks_mutex tests/live_locks_misuse tests/live_locks_sleep
LIVE_TESTS += tests/live_smp tests/live_smp_move tests/live_smp_stop tests/live_smp_litmus
LIVE_TESTS += tests/live_smp_stacks
# Those that are as good on any number of CPUs (KSS_TEST_CPUS); the others are about what one does.
SMP_TESTS = tests/live_smp tests/live_smp_move tests/live_smp_stop tests/live_smp_stacks tests/live_smp_litmus \
	tests/live_wake tests/live_host_storm tests/live_process tests/live_kill tests/live_preempt tests/live_device \
	tests/live_locks_spin tests/live_locks_mutex tests/live_locks_sleep tests/live_kthread tests/live_timer \
	tests/live_work tests/live_route tests/live_latency
check_PROGRAMS += $(LIVE_TESTS)
TESTS += $(LIVE_TESTS)
tests_live_stack_LDADD = $(TEST_LIBS)
tests_live_irq_LDADD = $(TEST_LIBS) -lpthread
tests_live_picture_LDADD = $(TEST_LIBS)
tests_live_profile_LDADD = $(TEST_LIBS)
tests_live_watchdog_LDADD = $(TEST_LIBS) -lpthread
check_LTLIBRARIES += tests/libsmasher.la
tests_libsmasher_la_SOURCES = tests/smasher.c
tests_libsmasher_la_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
tests_libsmasher_la_CFLAGS = $(AM_CFLAGS) -fstack-protector-all -Wno-missing-prototypes
tests_live_guard_LDADD = tests/libsmasher.la $(TEST_LIBS)
tests_live_protect_LDADD = $(TEST_LIBS) -lpthread
tests_live_softirq_SOURCES = tests/live_softirq.c tests/softirq.h
tests_live_softirq_LDADD = $(TEST_LIBS)
tests_live_softirq_misuse_SOURCES = tests/live_softirq_misuse.c tests/softirq.h
tests_live_softirq_misuse_LDADD = $(TEST_LIBS)
tests_live_depths_SOURCES = tests/live_depths.c tests/softirq.h
tests_live_depths_LDADD = $(TEST_LIBS)
tests_live_vstack_LDADD = $(TEST_LIBS)
tests_live_nested_LDADD = $(TEST_LIBS)
tests_live_host_LDADD = $(TEST_LIBS)
tests_live_host_storm_LDADD = $(TEST_LIBS)
tests_live_route_LDADD = $(TEST_LIBS)
tests_live_smp_LDADD = $(TEST_LIBS)
tests_live_latency_LDADD = $(TEST_LIBS)
tests_live_storm_LDADD = $(TEST_LIBS) -lpthread
tests_live_kthread_SOURCES = tests/live_kthread.c tests/defer.h
tests_live_kthread_LDADD = $(TEST_LIBS)
tests_live_timer_SOURCES = tests/live_timer.c tests/defer.h
tests_live_timer_LDADD = $(TEST_LIBS)
tests_live_work_SOURCES = tests/live_work.c tests/defer.h
tests_live_work_LDADD = $(TEST_LIBS)
tests_live_smp_stacks_LDADD = $(TEST_LIBS)
tests_live_smp_stop_LDADD = $(TEST_LIBS) -lpthread
tests_live_smp_litmus_LDADD = $(TEST_LIBS)
tests_live_smp_move_SOURCES = tests/live_smp_move.c tests/regs_x86_64.S
tests_live_smp_move_LDADD = $(TEST_LIBS) -lpthread
tests_live_process_LDADD = $(TEST_LIBS)
tests_live_kill_LDADD = $(TEST_LIBS)
tests_live_lock_SOURCES = tests/live_lock.c tests/culprit.c tests/culprit.h
tests_live_lock_LDADD = $(TEST_LIBS) -lpthread
tests_live_order_SOURCES = tests/live_order.c tests/culprit.c tests/culprit.h
tests_live_order_LDADD = $(TEST_LIBS)
tests_live_atomic_SOURCES = tests/live_atomic.c tests/culprit.c tests/culprit.h
tests_live_atomic_LDADD = $(TEST_LIBS)
tests_live_asan_LDADD = $(TEST_LIBS)
tests_live_locks_spin_SOURCES = tests/live_locks_spin.c tests/crowd.c tests/crowd.h
tests_live_locks_spin_LDADD = $(TEST_LIBS)
tests_live_locks_mutex_SOURCES = tests/live_locks_mutex.c tests/crowd.c tests/crowd.h
tests_live_locks_misuse_SOURCES = tests/live_locks_misuse.c tests/crowd.c tests/crowd.h tests/culprit.c tests/culprit.h
tests_live_locks_misuse_LDADD = $(TEST_LIBS)
tests_live_locks_mutex_LDADD = $(TEST_LIBS)
tests_live_locks_sleep_SOURCES = tests/live_locks_sleep.c tests/crowd.c tests/crowd.h
tests_live_locks_sleep_LDADD = $(TEST_LIBS)
tests_live_eject_LDADD = $(TEST_LIBS)
tests_live_device_LDADD = $(TEST_LIBS)
tests_live_trap_LDADD = $(TEST_LIBS)
tests_live_preempt_SOURCES = tests/live_preempt.c tests/regs_x86_64.S
tests_live_preempt_LDADD = $(TEST_LIBS)

# The fault catalogue, by the scenarios of the program.
check_PROGRAMS += tests/live_faults
TESTS += tests/live_faults
EXTRA_DIST += tests/golden/faults
tests_live_faults_SOURCES = tests/live_faults.c tests/golden.c tests/golden.h
tests_live_faults_LDADD = tools/libfaults.la $(TEST_LIBS) -lpthread
endif

# Everything at once, for KSS_SOAK_SECONDS.
check_PROGRAMS += tests/soak
TESTS += tests/soak
tests_soak_SOURCES = tests/soak.c tests/soak_jobs.c tests/soak.h tests/regs_x86_64.S
tests_soak_LDADD = libkstacksim.la -lpthread
# Ten minutes on each count of CPUs.
soak: tests/soak
	KSS_SOAK_SECONDS=$${KSS_SOAK_SECONDS:-2400} tests/soak
.PHONY: soak

SCRIPT_TESTS = tests/examples.sh tests/faults.sh
TESTS += $(SCRIPT_TESTS)
EXTRA_DIST += $(SCRIPT_TESTS)

# ---- the package: layers, headers, symbols, pages, installation, debugger; bad input everywhere ----
SCRIPTS_OF_PACKAGE = tests/layers.sh tests/headers.sh tests/symbols.sh tests/manpages.sh \
	tests/outside.sh tests/gdb.sh tests/gdb_commands.sh tests/every.sh
dist_check_SCRIPTS += $(SCRIPTS_OF_PACKAGE)
TESTS += $(SCRIPTS_OF_PACKAGE)

PROGRAMS_OF_PACKAGE = tests/compile_c11 tests/compile_cxx
check_PROGRAMS += $(PROGRAMS_OF_PACKAGE) tests/gdb_target tests/gdb_commands_target
TESTS += $(PROGRAMS_OF_PACKAGE)
tests_compile_c11_CFLAGS = $(AM_CFLAGS) -std=c11 -pedantic-errors
tests_compile_c11_LDADD = libkstacksim.la
tests_compile_cxx_SOURCES = tests/compile_cxx.cc
tests_compile_cxx_CXXFLAGS = -std=c++17 -pedantic-errors -Wall -Wextra
tests_compile_cxx_LDADD = libkstacksim.la
# gdb is to see the program itself, not libtool's script.
tests_gdb_target_LDFLAGS = -static
tests_gdb_target_LDADD = libkstacksim.la -lpthread
tests_gdb_commands_target_LDFLAGS = -static
tests_gdb_commands_target_LDADD = libkstacksim.la -lpthread

if HAVE_CHECK
ERROR_TESTS = tests/errors_api tests/errors_config tests/errors_pointers tests/errors_syscalls
check_PROGRAMS += $(ERROR_TESTS)
TESTS += $(ERROR_TESTS)
tests_errors_api_SOURCES = tests/errors_api.c tests/errors.h
tests_errors_api_LDADD = $(TEST_LIBS) -lpthread
tests_errors_config_SOURCES = tests/errors_config.c tests/errors.h
tests_errors_config_LDADD = $(TEST_LIBS)
tests_errors_pointers_SOURCES = tests/errors_pointers.c tests/errors.h
tests_errors_pointers_LDADD = $(TEST_LIBS)
tests_errors_syscalls_SOURCES = tests/errors_syscalls.c tests/errors.h
tests_errors_syscalls_LDADD = $(TEST_LIBS)
ERROR_TESTS_EVERY = tests/errors_every tests/errors_misuse
check_PROGRAMS += $(ERROR_TESTS_EVERY)
TESTS += $(ERROR_TESTS_EVERY)
tests_errors_every_SOURCES = tests/errors_every.c tests/every.def tests/errors.h
tests_errors_every_LDADD = $(TEST_LIBS) -lpthread
tests_errors_misuse_SOURCES = tests/errors_misuse.c tests/errors.h
tests_errors_misuse_LDADD = $(TEST_LIBS) -lpthread
endif

# ---- pictures of stacks, and frames as the compiler planned them ----
SCRIPTS_OF_STACKS = tests/stack_tool.sh tests/stack_usage.sh
dist_check_SCRIPTS += $(SCRIPTS_OF_STACKS)
TESTS += $(SCRIPTS_OF_STACKS)
if HAVE_STACK_USAGE
check_PROGRAMS += tests/stack_usage_target
tests_stack_usage_target_CFLAGS = $(AM_CFLAGS) -fstack-usage
tests_stack_usage_target_LDADD = libkstacksim.la
endif
CLEANFILES += tests/*.su
