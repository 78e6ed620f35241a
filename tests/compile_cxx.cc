// SPDX-License-Identifier: MIT
// C++17 can use the whole interface: handlers with C linkage, macros, wait queues, a machine.
#include <kstacksim/kstacksim.h>

#include <atomic>
#include <cstdio>

namespace {

constexpr unsigned sys_meet = KSS_SYS_EXPERIMENT;
kss_wait_queue queue;
std::atomic<bool> here{false};

KSS_SYSCALL_STUB1(meet, sys_meet, long, who)

extern "C" long meet_handler(const kss_syscall_args *args)
{
    if (args->a[0] == 0) {
        int r = kss_wait_event_killable(&queue, here.load());
        return r < 0 ? r : 5;
    }
    here = true;
    kss_wake_up(&queue, 0);
    return 6;
}

extern "C" long sleeper(void *)
{
    return meet(0);
}

extern "C" long main_fn(void *arg)
{
    kss_spawn_attr attr{};
    attr.name = "sleeper";
    long pid = kss_spawn(sleeper, nullptr, &attr);
    int status = -1;
    kss_sleep(1000000);
    if (meet(1) != 6 || kss_wait(pid, &status) != pid)
        return 1;
    *static_cast<int *>(arg) = KSS_WEXITSTATUS(status);
    return 0;
}

} // namespace

int main()
{
    kss_config config;
    kss_machine *machine = nullptr;
    int met = 0, status = -1;

    kss_config_init(&config);
    kss_wait_queue_init(&queue, "meeting");
    if (kss_machine_create(&machine, &config) < 0) {
        std::printf("compile_cxx: no machine: %s\n", kss_last_error());
        return 1;
    }
    if (kss_syscall_register(machine, sys_meet, meet_handler, "meet") < 0 ||
        kss_machine_run(machine, main_fn, &met, &status) < 0) {
        std::printf("compile_cxx: %s\n", kss_last_error());
        return 1;
    }
    kss_machine_destroy(machine);
    if (status != 0 || met != 5) {
        std::printf("compile_cxx: status %#x, the sleeper returned %d\n", static_cast<unsigned>(status), met);
        return 1;
    }
    return 0;
}
