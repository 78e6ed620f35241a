# Tests of behaviour see include/ only, like everybody else.
if HAVE_CHECK
check_LTLIBRARIES = tests/libharness.la
tests_libharness_la_SOURCES = tests/harness.c tests/harness.h
tests_libharness_la_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
TEST_LIBS = tests/libharness.la libkstacksim.la $(CHECK_LIBS)

LIVE_TESTS = tests/live_stack tests/live_preempt tests/live_trap tests/live_irq \
	tests/live_process tests/live_device
check_PROGRAMS += $(LIVE_TESTS)
TESTS += $(LIVE_TESTS)
tests_live_stack_LDADD = $(TEST_LIBS)
tests_live_irq_LDADD = $(TEST_LIBS) -lpthread
tests_live_process_LDADD = $(TEST_LIBS)
tests_live_device_LDADD = $(TEST_LIBS)
tests_live_trap_LDADD = $(TEST_LIBS)
tests_live_preempt_SOURCES = tests/live_preempt.c tests/regs_x86_64.S
tests_live_preempt_LDADD = $(TEST_LIBS)
endif

SCRIPT_TESTS = tests/examples.sh
TESTS += $(SCRIPT_TESTS)
EXTRA_DIST += $(SCRIPT_TESTS)
