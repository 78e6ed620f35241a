/* SPDX-License-Identifier: MIT */
/* libkstacksim: a small, complete, preemptive kernel inside one ordinary Linux process. */
#ifndef KSTACKSIM_KSTACKSIM_H
#define KSTACKSIM_KSTACKSIM_H

#include <kstacksim/common.h>
#include <kstacksim/version.h>
#include <kstacksim/locks.h>
#include <kstacksim/machine.h>
#include <kstacksim/process.h>
#include <kstacksim/kstack.h>
#include <kstacksim/trap.h>
#include <kstacksim/irq.h>
#include <kstacksim/latency.h>
#include <kstacksim/syscall.h>
#include <kstacksim/sched.h>
#include <kstacksim/smp.h>
#include <kstacksim/sync.h>
#include <kstacksim/kthread.h>
#include <kstacksim/timer.h>
#include <kstacksim/work.h>
#include <kstacksim/device.h>
#include <kstacksim/uaccess.h>
#include <kstacksim/trace.h>
#include <kstacksim/report.h>
#include <kstacksim/picture.h>
#include <kstacksim/profile.h>
#include <kstacksim/host.h>

#endif
