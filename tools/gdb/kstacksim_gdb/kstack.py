# SPDX-License-Identifier: MIT
"""kss-stack: a kernel stack, measured and drawn."""
import json
import struct

import gdb

from .base import Command, Trouble, enum, member, memory, symbol, text, words
from .frames import no_frames, stack_pointer, walk
from .model import find_thread, stack_is_missing

THREAD_INFO_MAGIC = 0x6b73735f74696e66
POISON = struct.pack('<Q', 0x57ac57ac57ac57ac)
RED_ZONE = 128
SOURCE_SIGNAL = 1
ROWS = 32


def high_water(low, high, poisoned, info):
    """Bytes from the top down to the deepest word that is not poison."""
    at, chunk = low + info, 4096
    while poisoned and at < high:
        try:
            data = memory(at, min(chunk - at % chunk, high - at))
        except gdb.MemoryError:
            return high - at
        for i in range(0, len(data), 8):
            if data[i:i + 8] != POISON:
                return high - at - i
        at += len(data)
    return 0


class Measures:
    """What kss_kstack_info() gives, and the frames."""

    def __init__(self, thread):
        stack = thread.stack()
        if not stack:
            raise Trouble('%s has no kernel stack %s' % (thread.title(),
                                                         'any more' if thread.state == 'ZOMBIE' else 'yet'))
        if stack_is_missing(thread):
            raise Trouble('this core file does not have the kernel stack of %s: make core files with kss-core, or '
                          'let the host do it' % thread.title())
        config = thread.machine.config
        self.thread, (self.low, self.high) = thread, stack
        self.frames, self.note = walk(thread) if no_frames(thread) is None else ([], no_frames(thread))
        self.sp = stack_pointer(thread, self.frames)
        self.ti = thread.v['ti']
        self.info = self.ti.type.target().sizeof
        self.poisoned = bool(member(config, 'poison'))
        self.depth = self.high - self.sp if self.sp else 0
        self.high_water = max(high_water(self.low, self.high, self.poisoned, self.info),
                              min(self.depth, self.high - self.low),
                              member(thread.v, 'high_water', default=0)) # what was erased since
        canary = member(self.ti, 'canary')
        self.canary_intact = canary is not None and canary == member(thread.v, 'canary')
        stride = member(thread.v, 'kstack_arena', 'stride', default=0) if member(thread.v, 'kstack_arena') else 0
        gap = max(stride - (self.high - self.low), 0)
        guards = enum(config['guards'], 'KSS_GUARDS_')
        self.guard_low = gap if guards == 'BOTH' else 0
        self.guard_high = {'BOTH': gap, 'TRAILING': gap // 2}.get(guards, 0)

    def frame_parts(self):
        """From the outermost frame down to the stack pointer; inline functions have no frame of their own."""
        at, floor, parts = self.high, self.low + self.info, []

        def part(kind, low, label):
            nonlocal at
            low = max(low, floor)
            if low < at:
                parts.append((kind, low, at, label))
                at = low

        frames = [f for f in self.frames if not f.inline]
        user_frame = member(self.thread.v, 'user_frame', default=0)
        for i in range(len(frames) - 1, -1, -1):
            f = frames[i]
            if not self.sp or not self.thread.on_stack(f.low) or f.low >= at:
                continue # user frames, and what is on other stacks
            low = f.low
            if f.kind == 'trap':
                end = low + f.tf_size
                if f.tf_mode == 'kernel' and f.tf_source == SOURCE_SIGNAL:
                    part('red-zone', max(at - RED_ZONE, end), 'red zone of the interrupted function')
                part('padding', end, 'alignment' if at - end < 64 else 'room for a larger trap frame')
                where = ', at %s' % symbol(frames[i + 1].pc) if i + 1 < len(frames) else ''
                part('trap-frame', low, 'trap frame: %s%s' % (f.label, where))
            else:
                if at == self.high and low < user_frame < at:
                    part('padding', user_frame, 'trap frame of the last entry from user mode: empty')
                part('frame', low, symbol(f.pc))
        if self.sp and at == self.high:
            part('padding', user_frame, 'trap frame of the last entry from user mode: empty')
        if self.sp:
            part('frame', self.sp, 'innermost frame')
        return parts

    def parts(self):
        canary, parts = self.low + self.info - 8, []
        if self.guard_high:
            parts.append(('guard', self.high, self.high + self.guard_high, 'guard'))
        parts += self.frame_parts()
        at = parts[-1][1] if parts and parts[-1][0] != 'guard' else self.high
        mark = min(max(self.high - self.high_water, self.low + self.info), at)
        if self.poisoned:
            parts.append(('used', mark, at, 'used earlier, down to the high-water mark'))
            parts.append(('unused', self.low + self.info, mark, 'never used: poison'))
        else:
            parts.append(('unused', self.low + self.info, at, 'free'))
        parts.append(('canary', canary, canary + 8, 'canary, %s' % ('intact' if self.canary_intact else 'OVERWRITTEN')))
        parts.append(('thread-info', self.low, canary, self.thread_info()))
        if self.guard_low:
            parts.append(('guard', self.low - self.guard_low, self.low, 'guard'))
        return [p for p in parts if p[1] < p[2]]

    def thread_info(self):
        flags = member(self.ti, 'flags', default=0)
        if member(self.ti, 'magic') != THREAD_INFO_MAGIC:
            return 'thread_info: OVERWRITTEN'
        return 'thread_info: preempt_count %s%s%s' % (words(member(self.ti, 'preempt_count')),
                                                      ', need_resched' if flags & 1 else '',
                                                      ', killed' if flags & 2 else '')


FILL = {'guard': '/', 'trap-frame': 'T', 'frame': '#', 'used': '.', 'canary': 'C', 'thread-info': 'i'}


def merged(parts):
    """Frames of a recursion become one part."""
    shown = []
    for kind, low, high, label in parts:
        if shown and kind == 'frame' and shown[-1][0] == kind and shown[-1][3] == label:
            shown[-1][1], shown[-1][4] = low, shown[-1][4] + 1
        else:
            shown.append([kind, low, high, label, 1])
    return [(kind, low, high, label + (', %d frames' % n if n > 1 else '')) for kind, low, high, label, n in shown]


def draw(k):
    t, unit = k.thread, (k.high - k.low) // ROWS
    waits = text(t.v['wait_channel'])
    yield 'kernel stack of %s, %s%s' % (t.title(), t.state, ': ' + waits if waits else '')
    yield '  %d bytes, %d in use, high-water mark %d; a row is %d bytes' % (k.high - k.low, k.depth, k.high_water, unit)
    if k.sp and k.sp < k.low:
        yield '  OVERFLOW: the stack pointer %#x is %d bytes below the low end' % (k.sp, k.low - k.sp)
    yield '  %14s  ______   bytes' % 'low end at'
    shown_sp = not k.sp
    for kind, low, high, label in merged(k.parts()):
        if not shown_sp and high <= k.sp:
            shown_sp = True
            yield '  %#014x  <-- stack pointer' % k.sp
        fill = FILL.get(kind, ' ') * 6
        if kind == 'guard':
            yield '  %14s |%s| %6d  guard (not to scale)' % ('', fill, high - low)
            continue
        yield '  %#014x |%s| %6d  %s' % (low, fill, high - low, label)
        for _ in range(1, (high - low + unit // 2) // unit):
            yield '  %14s |%s|' % ('', fill)
    if k.note:
        yield '  (frames: %s)' % k.note


class Stack(Command):
    """Draw the kernel stack of a simulated thread to scale, high addresses first.

Usage: kss-stack [--json] ID | MACHINE:ID
With --json the same as one JSON object, for programs."""

    def run(self, argv):
        as_json = '--json' in argv
        words_ = [a for a in argv if a != '--json']
        if len(words_) != 1:
            raise Trouble('kss-stack takes one thread id as kss-ps shows it, and perhaps --json')
        t = find_thread(words_[0])
        k = Measures(t)
        if not as_json:
            gdb.write('\n'.join(draw(k)) + '\n')
            return
        gdb.write(json.dumps({
            'thread': t.tid, 'name': t.name, 'state': t.state, 'low': k.low, 'high': k.high, 'sp': k.sp or None,
            'high_water': k.high_water, 'canary_intact': k.canary_intact, 'guard_low': k.guard_low,
            'guard_high': k.guard_high,
            'parts': [dict(zip(('kind', 'low', 'high', 'label'), p)) for p in k.parts()]}) + '\n')


Stack('kss-stack')
