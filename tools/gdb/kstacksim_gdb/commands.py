# SPDX-License-Identifier: MIT
"""kss-ps, kss-bt, kss-irq, kss-machine"""
import textwrap

import gdb

from .base import Command, Trouble, member, symbol, text, words
from .frames import IRQ_LINES, no_frames, stack_pointer, walk
from .model import Thread, find_thread, machines, stack_is_missing


def print_table(rows, left):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))]
        gdb.write('  '.join(cells).rstrip() + '\n')


class Ps(Command):
    """List the simulated threads of all machines of libkstacksim.

Usage: kss-ps
Idle threads have the ids 0, -1, and so on. MODE is the mode it was in when it gave up the CPU. STACK is what
its kernel stack holds now, and its size; RUN ms is without what it has run since the last tick."""

    def run(self, argv):
        if argv:
            raise Trouble('kss-ps takes no arguments')
        found = machines()
        for m in found:
            if len(found) > 1 or m.damaged:
                gdb.write(m.title() + '\n')
            rows = [('ID', 'PID', 'PPID', 'NAME', 'STATE', 'MODE', 'CPU', 'STACK', 'PRIO', 'RUN ms', 'WAITS FOR')]
            rows += [self.row(t) for t in m.threads()]
            print_table(rows, (3, 4, 5, 10))

    @staticmethod
    def row(t):
        if not t.intact:
            return (words(t.tid), '?', '?', 'DAMAGED at %#x' % t.at, '?', '?', '?', '?', '?', '?', '')
        pid, ppid = 0, 0
        if member(t.v, 'process'):
            pid = member(t.v, 'process', 'pid')
            if member(t.v, 'process', 'parent'):
                ppid = member(t.v, 'process', 'parent', 'pid')
        stack, sp = t.stack(), stack_pointer(t)
        use = '%d/%d' % (stack[1] - sp if sp else 0, stack[1] - stack[0]) if stack else 'none'
        run = member(t.v, 'run_ns')
        return (words(t.tid), words(pid), words(ppid), t.name, t.state, t.mode(), words(member(t.v, 'cpu')), use,
                words(member(t.v, 'priority')), '?' if run is None else '%.2f' % (run / 1e6),
                text(t.v['wait_channel']))


def runs(frames):
    """(number, frame, how many like it follow that need no line): a recursion is not shown in full."""
    i = 0
    while i < len(frames):
        end = i + 1
        while end < len(frames) and frames[end].pc == frames[i].pc and not frames[i].inline:
            end += 1
        if end - i < 4:
            yield i, frames[i], 0
            i += 1
        else:
            yield i, frames[i], end - i - 1
            i = end


class Bt(Command):
    """Show the frames of a simulated thread, from its kernel stack into its user stack.

Usage: kss-bt ID | MACHINE:ID | all
The id is as kss-ps shows it. A thread that runs is shown from its CPU's host thread, any other one from
the context that the last switch saved."""

    def run(self, argv):
        if len(argv) != 1:
            raise Trouble('kss-bt takes one thread id as kss-ps shows it, or "all"')
        if argv[0] != 'all':
            t = find_thread(argv[0])
            why = no_frames(t)
            if why:
                raise Trouble(why)
            self.show(t)
            return
        for m in machines():
            for t in m.threads():
                if not t.intact:
                    gdb.write('a thread at %#x is DAMAGED\n' % t.at)
                elif no_frames(t):
                    gdb.write(no_frames(t) + '\n')
                else:
                    self.show(t)
                gdb.write('\n')

    @staticmethod
    def show(t):
        waits = text(t.v['wait_channel'])
        cpu = t.cpu()
        gdb.write('%s, %s%s%s\n' % (t.title(), t.state, ' on CPU %d' % cpu.index if cpu else '',
                                    ': ' + waits if waits else ''))
        frames, note = walk(t)
        for i, f, same in runs(frames):
            gdb.write('#%-3d %-6s %s\n' % (i, f.kind, f.text))
            if same:
                gdb.write('     %-6s (the same %d times more)\n' % ('', same))
        if stack_is_missing(t):
            note = 'this core file does not have its kernel stack: make core files with kss-core, or let the host do it'
        if note:
            gdb.write('     (%s)\n' % note)


class Irq(Command):
    """Show each CPU's interrupt controller.

Usage: kss-irq
Lines with a handler, and those that were raised or are masked. raised = delivered + pending + lost."""

    def run(self, argv):
        if argv:
            raise Trouble('kss-irq takes no arguments')
        for m in machines():
            for cpu in m.cpus:
                self.show(m, cpu)

    @staticmethod
    def show(m, cpu):
        gdb.write('machine %d, CPU %d: ' % (m.number, cpu.index))
        if cpu.hot is None:
            gdb.write('does not run\n')
        else:
            host = cpu.host_thread()
            gdb.write('%s mode, interrupts %s%s%s\n' % (
                'kernel' if member(cpu.hot, 'mode') else 'user', 'on' if member(cpu.hot, 'irqs_on') else 'off',
                ', something is pending' if member(cpu.hot, 'pending') else '',
                ', host thread %d (gdb thread %s)' % (host.ptid[1], host.num) if host is not None else ''))
        if cpu.hw is None:
            return
        intc = cpu.hw['intc']
        request, mask, service = (member(intc, n, default=0) for n in ('request', 'mask', 'in_service'))
        rows = [('LINE', 'PRIO', 'RAISED', 'DELIVERED', 'PENDING', 'LOST', 'ENDED', 'IN SERVICE', 'MASKED',
                 'NO HANDLER', 'HANDLER')]
        for n in range(IRQ_LINES):
            line, desc, bit = intc['line'][n], m.v['irq'][n], 1 << n
            handler = member(desc, 'handler')
            if not (handler or member(line, 'raised') or mask & bit):
                continue
            name = '%s (%s)' % (text(desc['name']) or '-', symbol(handler)) if handler else '-'
            rows.append((str(n),) + tuple(words(x) for x in (
                member(line, 'priority'), member(line, 'raised'), member(line, 'delivered'),
                int(bool(request & bit)), member(line, 'lost'), member(line, 'eoi'),
                'yes' if service & bit else 'no', 'yes' if mask & bit else 'no', member(desc, 'unhandled'))) + (name,))
        print_table(rows, (10,))
        gdb.write('left pending because libc was running: %s\n' % words(member(cpu.hw, 'deferred')))


def scalars(value, skip=()):
    """(name, text) of a structure's numbers, in order."""
    codes = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_ENUM)
    for field in value.type.strip_typedefs().fields():
        kind = field.type.strip_typedefs().code
        if kind in codes and field.name not in skip:
            n = member(value, field.name)
            if kind == gdb.TYPE_CODE_BOOL:
                yield field.name, 'on' if n else 'off'
            elif kind == gdb.TYPE_CODE_ENUM:
                yield field.name, str(value[field.name]).replace('KSS_', '').lower()
            else:
                yield field.name, words(n)


def policies(config):
    """What is done about the kinds of report that have another policy than the default."""
    for field in gdb.lookup_type('enum kss_report_kind').fields():
        if field.enumval <= config['policy'].type.range()[1] and member(config['policy'][field.enumval]):
            yield '%s %s' % (field.name.replace('KSS_REPORT_', '').lower(),
                             str(config['policy'][field.enumval]).replace('KSS_ACTION_', '').lower())


class MachineCommand(Command):
    """Show the state, configuration and counters of each machine of libkstacksim.

Usage: kss-machine"""

    def run(self, argv):
        if argv:
            raise Trouble('kss-machine takes no arguments')
        for m in machines():
            life = ('not yet run', 'running', 'ended')
            state = member(m.v, 'life', default=-1)
            words_ = ['%s: %s%s;' % (m.title()[:1].upper() + m.title()[1:], life[state] if 0 <= state < 3 else '?',
                                     ', stopping' if member(m.v, 'stopping') else '')]
            reason = member(m.v, 'stop_reason')
            if reason:
                words_.append('stopped with %d;' % reason)
            words_.append('%s machine, scheduler %s.' % (text(m.v['platform']['name']), text(m.v['sched']['name'])))
            names = ('threads', 'zombies', 'created', 'reaped', 'kstack_live', 'kstack_allocs', 'kstack_hits',
                     'devices')
            words_.append('Threads and stacks: %s.' % ', '.join('%s %s' % (n, words(member(m.v, n))) for n in names))
            words_.append('Configuration: %s.' % ', '.join('%s %s' % x for x in scalars(m.config, ('struct_size',))))
            words_.append('Watchdog: %s.' % ', '.join('%s %s' % x for x in scalars(m.config['watchdog'])))
            words_.append('Policy: %s.' % (', '.join(policies(m.config)) or 'the default of each kind'))
            for cpu in m.cpus:
                counts = ', '.join('%s %s' % x for x in scalars(cpu.v['stats'], ('deferred',)))
                words_.append('CPU %d: current %s, irq_depth %s, %s.' % (
                    cpu.index, Thread(m, cpu.v['current']).title() if member(cpu.v, 'current') else 'none',
                    words(member(cpu.v, 'irq_depth')), counts))
            gdb.write(textwrap.fill(' '.join(words_), 100, break_on_hyphens=False) + '\n')


Ps('kss-ps')
Bt('kss-bt')
Irq('kss-irq')
MachineCommand('kss-machine')
