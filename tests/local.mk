# REQ C3: make check and make distcheck run all of this.
# Tests of behaviour see include/ only, like everybody else.
if HAVE_CHECK
check_LTLIBRARIES = tests/libharness.la
tests_libharness_la_SOURCES = tests/harness.c tests/harness.h
tests_libharness_la_CPPFLAGS = $(AM_CPPFLAGS) $(CHECK_CFLAGS)
TEST_LIBS = tests/libharness.la libkstacksim.la $(CHECK_LIBS)

LIVE_TESTS = tests/live_stack tests/live_preempt tests/live_trap tests/live_irq \
	tests/live_process tests/live_device tests/live_kill
check_PROGRAMS += $(LIVE_TESTS)
TESTS += $(LIVE_TESTS)
tests_live_stack_LDADD = $(TEST_LIBS)
tests_live_irq_LDADD = $(TEST_LIBS) -lpthread
tests_live_process_LDADD = $(TEST_LIBS)
tests_live_kill_LDADD = $(TEST_LIBS)
tests_live_device_LDADD = $(TEST_LIBS)
tests_live_trap_LDADD = $(TEST_LIBS)
tests_live_preempt_SOURCES = tests/live_preempt.c tests/regs_x86_64.S
tests_live_preempt_LDADD = $(TEST_LIBS)
endif

SCRIPT_TESTS = tests/examples.sh
TESTS += $(SCRIPT_TESTS)
EXTRA_DIST += $(SCRIPT_TESTS)

# ---- the package: layers, headers, symbols, pages, installation, debugger; bad input everywhere ----
SCRIPTS_OF_PACKAGE = tests/layers.sh tests/headers.sh tests/symbols.sh tests/manpages.sh \
	tests/outside.sh tests/gdb.sh
dist_check_SCRIPTS += $(SCRIPTS_OF_PACKAGE)
TESTS += $(SCRIPTS_OF_PACKAGE)

PROGRAMS_OF_PACKAGE = tests/compile_c11 tests/compile_cxx
check_PROGRAMS += $(PROGRAMS_OF_PACKAGE) tests/gdb_target
TESTS += $(PROGRAMS_OF_PACKAGE)
tests_compile_c11_CFLAGS = $(AM_CFLAGS) -std=c11 -pedantic-errors
tests_compile_c11_LDADD = libkstacksim.la
tests_compile_cxx_SOURCES = tests/compile_cxx.cc
tests_compile_cxx_CXXFLAGS = -std=c++17 -pedantic-errors -Wall -Wextra
tests_compile_cxx_LDADD = libkstacksim.la
# gdb is to see the program itself, not libtool's script.
tests_gdb_target_LDFLAGS = -static
tests_gdb_target_LDADD = libkstacksim.la -lpthread

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
endif
