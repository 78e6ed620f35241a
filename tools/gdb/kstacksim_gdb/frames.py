# SPDX-License-Identifier: MIT
"""Frames of a simulated thread: gdb's own unwinding, begun from a saved context, and what it finds."""
import contextlib

import gdb
import gdb.unwinder

from .base import member, preserved, register, symbol, text
from .model import VEC_SYSCALL, saved_registers

TRAP_FRAME_MAGIC = 0x6b73735f66726d65
VEC_IRQ, IRQ_LINES = 32, 64
VECTORS = {0: 'divide error', 1: 'debug exception', 2: 'non-maskable interrupt', 3: 'breakpoint', 4: 'overflow',
           6: 'invalid opcode', 8: 'double fault', 12: 'stack exception', 13: 'general protection fault',
           14: 'page fault', 16: 'floating-point exception', 17: 'alignment check',
           19: 'SIMD floating-point exception'}
FRAMES_MAX = 2000
OUTERMOST = ('kssi_thread_entry', 'kssi_user_start')


class SuspendedUnwinder(gdb.unwinder.Unwinder):
    """While a thread's registers are set, the CPU's newest frame seems to have been called by it. So
    gdb's own unwinding starts there, and no register is written, which a core file would not allow."""

    def __init__(self):
        super().__init__('kstacksim')
        self.enabled = False
        self.registers = None
        self.start = None

    def __call__(self, pending):
        if self.registers is None or self.start != (register(pending, 'rip'), register(pending, 'rsp')):
            return None
        # Inner to the frames that follow, or gdb takes the stack for corrupt.
        info = pending.create_unwind_info(FrameId(self.registers['rsp'] - 64, self.start[0]))
        kind = gdb.lookup_type('unsigned long')
        for name, value in self.registers.items():
            info.add_saved_register(name, gdb.Value(value).cast(kind))
        return info


class FrameId:
    def __init__(self, sp, pc):
        self.sp = gdb.Value(sp).cast(gdb.lookup_type('unsigned long'))
        self.pc = gdb.Value(pc).cast(gdb.lookup_type('unsigned long'))


UNWINDER = SuspendedUnwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)


@contextlib.contextmanager
def suspended(registers):
    """gdb unwinds from a context that is not in any CPU; gives the first frame of it."""
    with preserved():
        start = gdb.newest_frame()
        UNWINDER.start = register(start, 'rip'), register(start, 'rsp')
        UNWINDER.registers, UNWINDER.enabled = registers, True
        gdb.invalidate_cached_frames()
        try:
            frame = gdb.newest_frame()
            while frame is not None and frame.type() == gdb.INLINE_FRAME:
                frame = frame.older()
            yield frame.older() if frame is not None else None
        finally:
            UNWINDER.registers, UNWINDER.enabled = None, False
            gdb.invalidate_cached_frames()


class Frame:
    """One frame, as far as it is needed when gdb's is not valid any more."""

    def __init__(self, frame, kind):
        self.kind = kind # kernel, user, trap; entry: the signal handler that plays the hardware
        self.pc, self.sp = frame.pc(), register(frame, 'rsp')
        self.inline = frame.type() == gdb.INLINE_FRAME
        self.name = frame.name() or '??'
        self.text, self.label = None, None
        self.tf, self.tf_size, self.tf_source, self.tf_mode = 0, 0, 0, None

    @property
    def low(self):
        return self.tf if self.kind == 'trap' else self.sp

    def call(self, frame):
        where, sal = '', frame.find_sal()
        if sal.symtab is not None and sal.line:
            where = ' at %s:%d' % (sal.symtab.filename, sal.line)
        elif gdb.solib_name(self.pc):
            where = ' from %s' % gdb.solib_name(self.pc)
        self.text = '%#018x in %s (%s)%s' % (self.pc, self.name, arguments(frame), where)


def arguments(frame):
    try:
        block = frame.block()
        while block.function is None:
            block = block.superblock
    except (RuntimeError, gdb.error, AttributeError):
        return ''
    shown = []
    for s in block:
        if s.is_argument:
            try:
                value = frame.read_var(s).format_string(max_elements=32, max_depth=1)
            except (gdb.error, ValueError):
                value = '?'
            shown.append('%s=%s' % (s.print_name, value))
    return ', '.join(shown)


def entry_symbol(pc):
    """The name, if this is the common entry or exit. A return address may lie behind the symbol's end."""
    for at in (pc, pc - 1):
        name = symbol(at).partition('+')[0]
        if name.startswith('kssi_trap_'):
            return name
    return None


def vector_name(thread, vector, frame):
    if VEC_IRQ <= vector < VEC_IRQ + IRQ_LINES:
        name = text(thread.machine.v['irq'][vector - VEC_IRQ]['name'])
        return 'interrupt of line %d%s' % (vector - VEC_IRQ, ' (%s)' % name if name else '')
    if vector != VEC_SYSCALL:
        return VECTORS.get(vector, 'vector %d' % vector)
    names = thread.machine.v['syscall_name']
    with contextlib.suppress(gdb.error):
        number = register(frame.older(), 'rdi') if frame.older() is not None else -1
        if 0 <= number <= names.type.range()[1] and text(names[number]):
            return 'system call %s' % text(names[number])
    return 'system call'


def trap(thread, frame, f):
    """The common entry's frame: rbx holds the trap frame there, in the exit's last instructions rdx.
    Gives the mode that was interrupted."""
    f.kind = 'trap'
    for name in ('rdx', 'rbx') if frame.level() == 0 else ('rbx',):
        f.tf = register(frame, name)
        tf = gdb.Value(f.tf).cast(thread.v['tf'].type)
        if member(tf, 'magic') == TRAP_FRAME_MAGIC:
            break
    else:
        f.label = f.text = 'the trap frame at %#x is DAMAGED' % f.tf
        return None
    f.tf_size, f.tf_source = member(tf, 'size'), member(tf, 'source')
    f.tf_mode = 'kernel' if member(tf, 'mode') else 'user'
    f.label = '%s in %s mode' % (vector_name(thread, member(tf, 'vector'), frame), f.tf_mode)
    f.text = '%s, trap frame at %#x' % (f.label, f.tf)
    return f.tf_mode


def follow(thread, frame, mode, found):
    """Appends the frames from this one outward; returns why gdb could not go on, or None."""
    cpu = thread.cpu()
    while frame is not None and frame.pc():
        if len(found) == FRAMES_MAX:
            return 'more than %d frames' % FRAMES_MAX
        sp = register(frame, 'rsp')
        f = Frame(frame, 'entry' if cpu and cpu.on_entry_stack(sp) else mode)
        if frame.type() == gdb.SIGTRAMP_FRAME and entry_symbol(f.pc):
            mode = trap(thread, frame, f) or '?'
        elif frame.type() == gdb.SIGTRAMP_FRAME and not symbol(f.pc).startswith('kssi_call_on_stack'):
            f.text = '<signal handler called>'
        else:
            f.call(frame)
        found.append(f)
        if f.name in OUTERMOST:
            return None
        reason = frame.unwind_stop_reason()
        frame = frame.older()
        if frame is None and reason not in (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST):
            return gdb.frame_stop_reason_string(reason)
    return None


def walk(thread):
    """(frames, why they end too early or None)"""
    found, cpu = [], thread.cpu()
    try:
        if cpu is not None:
            host = cpu.host_thread()
            if host is None:
                return [], 'the host thread of CPU %d is not there' % cpu.index
            with preserved():
                host.switch()
                return found, follow(thread, gdb.newest_frame(), thread.mode(), found)
        registers = saved_registers(thread)
        if registers is None:
            return [], 'its saved context cannot be read'
        start = symbol(registers['rip'])
        if '+' not in start: # behind no call: gdb would take it for the end of the function before it
            return [], 'it has not run yet, and starts at %s' % start
        with suspended(registers) as frame:
            return found, follow(thread, frame, 'kernel', found)
    except gdb.MemoryError as e:
        return found, str(e)
    except gdb.error as e:
        return found, 'gdb cannot unwind further: %s' % e


def stack_pointer(thread, frames=None):
    """The lowest address in use in its kernel stack, also while its CPU runs on a stack of its own;
    0 when it is empty."""
    if thread.state == 'ZOMBIE':
        return 0
    if thread.cpu() is None:
        return thread.saved_sp()
    for f in walk(thread)[0] if frames is None else frames:
        if thread.on_stack(f.low):
            return f.low
    return 0


def no_frames(thread):
    """Why a thread has none; None: it has."""
    if thread.cpu() is not None:
        return None
    if not thread.stack():
        return '%s has no kernel stack %s' % (thread.title(), 'any more' if thread.state == 'ZOMBIE' else 'yet')
    if not member(thread.v, 'context_saved', default=0):
        return '%s has no saved context, and no CPU runs it' % thread.title()
    return None
