# Examples see include/ only. They are not installed: people read them and copy.
SMALL_EXAMPLES = examples/hello_syscall examples/timer_story examples/keyboard_echo \
	examples/two_threads examples/zombie examples/recursion examples/many_cpus
noinst_PROGRAMS += $(SMALL_EXAMPLES) examples/preempted_write
examples_hello_syscall_LDADD = libkstacksim.la
examples_timer_story_LDADD = libkstacksim.la
examples_keyboard_echo_LDADD = libkstacksim.la
examples_two_threads_LDADD = libkstacksim.la
examples_zombie_LDADD = libkstacksim.la
examples_recursion_LDADD = libkstacksim.la
examples_many_cpus_LDADD = libkstacksim.la
examples_preempted_write_SOURCES = examples/preempted_write.c examples/pw.h examples/pw_processes.c \
	examples/pw_show.c examples/table.c examples/table.h
examples_preempted_write_LDADD = libkstacksim.la $(SMARTCOLS_LIBS)
examples_preempted_write_CPPFLAGS = $(AM_CPPFLAGS) $(SMARTCOLS_CFLAGS)
if HAVE_SMARTCOLS
examples_preempted_write_CPPFLAGS += -DHAVE_SMARTCOLS
endif
noinst_PROGRAMS += examples/deep_path
examples_deep_path_SOURCES = examples/deep_path.c examples/dp.h examples/dp_paths.c examples/dp_show.c \
	examples/table.c examples/table.h
examples_deep_path_LDADD = libkstacksim.la $(SMARTCOLS_LIBS)
examples_deep_path_CPPFLAGS = $(examples_preempted_write_CPPFLAGS)
