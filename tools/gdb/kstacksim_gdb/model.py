# SPDX-License-Identifier: MIT
"""The library's structures: machines, CPUs, threads."""
import contextlib
import struct

import gdb

from .base import Trouble, enum, is_core, member, memory, preserved, register, symbol, text, words

MACHINE_MAGIC = 0x6b73735f6d616368
THREAD_MAGIC = 0x6b73735f74687264
VEC_SYSCALL = 0x81


def table():
    """The library's table of live machines."""
    thread = gdb.selected_thread()
    if thread is None:
        raise Trouble('no program is being debugged: run it, or load a core file')
    if thread.is_running():
        raise Trouble('the program is running: stop it first')
    found = gdb.lookup_global_symbol('kssi_machines')
    if found is not None:
        return found.value()
    try:
        gdb.parse_and_eval('&kss_machine_create')
    except gdb.error:
        raise Trouble('libkstacksim is not in this program, or was stripped of all symbols') from None
    raise Trouble('libkstacksim has no debug information here (it is stripped, or was built without -g), so its '
                  'machines cannot be read')


def machines():
    machine_table = table()
    first, last = machine_table.type.range()
    found = [Machine(i, machine_table[i]) for i in range(first, last + 1) if int(machine_table[i])]
    if not found:
        raise Trouble('no machine of libkstacksim is alive')
    return found


class Machine:
    def __init__(self, number, pointer):
        self.number = number
        self.at = int(pointer)
        self.v = pointer.dereference()
        self.config = self.v['config']
        self.damaged = member(self.v, 'magic') != MACHINE_MAGIC
        switch = member(self.v, 'platform', 'context_switch')
        self.engine = symbol(switch) if switch else DEFAULT_ENGINE
        hw = self.v['hw']
        self.cpus = [Cpu(self, i, self.v['cpu'][i], hw['cpu'][i] if member(hw) else None)
                     for i in range(min(member(self.v, 'cpus', default=0), 4096))]
        self.running = {}
        with preserved():
            for cpu in self.cpus:
                thread = cpu.runs()
                if thread:
                    self.running[thread] = cpu

    def title(self):
        return 'machine %d at %#x%s' % (self.number, self.at, ' (its magic number is DAMAGED)' if self.damaged else '')

    def threads(self):
        pointers = [c.v['idle'] for c in self.cpus if member(c.v, 'idle')]
        base, count = member(self.v, 'by_id'), member(self.v, 'id_slots', default=0)
        kind = self.v['by_id'].type.target()
        if base:
            try:
                slots = memory(base, 8 * min(count, 1 << 22))
                pointers += [gdb.Value(p).cast(kind) for (p,) in struct.iter_unpack('<Q', slots) if p]
            except gdb.MemoryError:
                gdb.write('%s: the table of thread ids cannot be read\n' % self.title())
        found = [Thread(self, p) for p in pointers]
        return sorted(found, key=lambda t: t.tid if t.tid is not None else 1 << 40)


class Cpu:
    def __init__(self, machine, index, value, hw):
        self.machine, self.index, self.v, self.hw = machine, index, value, hw
        self.hot = hw['hot'].dereference() if hw is not None and member(hw, 'hot') else None

    def host_thread(self):
        """gdb's thread for this CPU; None while it does not run. pthread_t is the thread pointer, which
        is right where the id is another process namespace's."""
        if self.hot is None:
            return None
        own, tid = member(self.hw, 'thread'), member(self.hw, 'host_tid')
        threads = [t for t in gdb.selected_inferior().threads() if t.is_valid()]
        with preserved():
            for t in threads:
                with contextlib.suppress(gdb.error, ValueError):
                    t.switch()
                    if int(gdb.newest_frame().read_register('fs_base')) & (1 << 64) - 1 == own:
                        return t
        return next((t for t in threads if t.ptid[1] == tid), None)

    def on_entry_stack(self, sp):
        low = member(self.hw, 'entry_stack', default=0)
        return low <= sp <= low + member(self.hw, 'entry_stack_size', default=0)

    def sp(self):
        """Its stack pointer, below signal handlers; its host thread is selected."""
        frame, sp = gdb.newest_frame(), 0
        for _ in range(24):
            if frame is None:
                break
            sp = register(frame, 'rsp')
            if not self.on_entry_stack(sp):
                break
            frame = frame.older()
        return sp

    def runs(self):
        """The address of the thread whose registers the CPU holds. In a context switch that is not
        who is called current, and at boot and halt nobody's."""
        current = self.v['current']
        if self.hot is None or not member(current):
            return None
        if not member(current, 'context_saved', default=0):
            return int(current)
        host = self.host_thread()
        if host is None:
            return int(current)
        with preserved():
            host.switch()
            sp = self.sp()
        for pointer in (current, self.v['switched_from']):
            if member(pointer):
                stack = Thread(self.machine, pointer).stack()
                if stack and stack[0] <= sp <= stack[1]:
                    return int(pointer)
        return None


def ucontext_registers(thread):
    """What swapcontext() left: glibc's ucontext_t."""
    greg = thread.v['context'].cast(gdb.lookup_type('ucontext_t').pointer())['uc_mcontext']['gregs']
    order = {'r12': 4, 'r13': 5, 'r14': 6, 'r15': 7, 'rbp': 10, 'rbx': 11, 'rsp': 15, 'rip': 16}
    return {name: int(greg[i]) & (1 << 64) - 1 for name, i in order.items()}


DEFAULT_ENGINE = 'kssi_context_switch'
ENGINES = {DEFAULT_ENGINE: ucontext_registers}


def saved_registers(thread):
    engine = ENGINES.get(thread.machine.engine)
    if engine is None:
        raise Trouble('contexts that %s saves are not known to this script' % thread.machine.engine)
    try:
        return engine(thread)
    except gdb.MemoryError:
        return None


class Thread:
    def __init__(self, machine, pointer):
        self.machine = machine
        self.at = int(pointer)
        self.v = pointer.dereference()
        self.tid = member(self.v, 'tid')
        self.name = text(self.v['name'])
        self.state = enum(self.v['state'], 'KSS_THREAD_')
        self.intact = member(self.v, 'magic') == THREAD_MAGIC

    def title(self):
        return 'thread %s (%s)' % (words(self.tid), self.name)

    def cpu(self):
        """The CPU that runs it."""
        return self.machine.running.get(self.at)

    def stack(self):
        """(low, high) of its kernel stack, None while it has none."""
        low, arena = member(self.v, 'ti'), member(self.v, 'kstack_arena')
        if not low:
            return None
        size = member(self.v, 'kstack_arena', 'size') if arena else member(self.machine.config, 'kstack_size')
        return (low, low + size) if size and size <= 1 << 30 else None

    def mode(self):
        """As kss_threads() says it; of a running one, what the CPU says."""
        if self.cpu() and self.cpu().hot is not None:
            return 'kernel' if member(self.cpu().hot, 'mode') else 'user'
        tf = self.v['tf']
        if stack_is_missing(self):
            return '?'
        if self.state == 'ZOMBIE' or member(self.v, 'kernel_fn'):
            return 'kernel'
        if not member(self.v, 'tf'):
            return 'user'
        preempted = self.state == 'READY' and not member(tf, 'prev', default=1) and \
            member(tf, 'mode') == 0 and member(tf, 'vector') != VEC_SYSCALL
        return 'user' if preempted else 'kernel'

    def saved_sp(self):
        """The stack pointer of its suspended work; 0 if there is none."""
        if not member(self.v, 'context_saved', default=0) or not self.stack():
            return 0
        return (saved_registers(self) or {}).get('rsp', 0)

    def on_stack(self, address):
        """Is it in its kernel stack, or just below, where it has run over the end?"""
        stack, gap = self.stack(), member(self.machine.v, 'stack_gap', default=0)
        return bool(stack) and stack[0] - gap <= address < stack[1]


def stack_is_missing(thread):
    """A core file made by generate-core-file alone has no memory behind the first guard."""
    stack = thread.stack()
    return is_core() and stack and member(thread.v, 'ti', 'magic') in (0, None) and not member(thread.v, 'ti', 'canary')


def find_thread(word):
    """ID, or MACHINE:ID when there are several machines."""
    machine, colon, tid = word.rpartition(':')
    try:
        wanted, where = int(tid, 0), int(machine, 0) if colon else None
    except ValueError:
        raise Trouble('%s is no thread id: a number as kss-ps shows it, or MACHINE:ID' % word) from None
    for m in machines():
        if where is None or m.number == where:
            for t in m.threads():
                if t.tid == wanted:
                    return t
    raise Trouble('there is no thread %s: kss-ps lists them' % word)
