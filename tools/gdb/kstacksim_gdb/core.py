# SPDX-License-Identifier: MIT
"""kss-core: a core file that has the simulated stacks."""
import struct

import gdb

from .base import Command, Trouble, is_core, member, memory
from .model import machines


def stacks(m):
    """(low, size) of every stack that was ever handed out, and of the CPUs' entry stacks."""
    for kind in ('kernel_arenas', 'user_arenas'):
        arenas = m.v[kind]
        for i in range(arenas.type.range()[1] + 1):
            if member(arenas[i]):
                base, size, stride, fresh = (member(arenas[i], n) for n in ('base', 'size', 'stride', 'fresh'))
                for slot in range(fresh):
                    yield base + slot * stride, size
    for cpu in m.cpus:
        if cpu.hw is not None and member(cpu.hw, 'entry_stack'):
            yield member(cpu.hw, 'entry_stack'), member(cpu.hw, 'entry_stack_size')


def segments(f):
    """(address, size, offset) of the memory in an ELF core file."""
    f.seek(0)
    header = f.read(64)
    offset, size, count = struct.unpack_from('<Q', header, 32)[0], *struct.unpack_from('<HH', header, 54)
    for i in range(count):
        f.seek(offset + i * size)
        kind, _, at, address, _, length, _, _ = struct.unpack('<IIQQQQQQ', f.read(56))
        if kind == 1:
            yield address, length, at


def fill_in(f, inside, low, size):
    """Writes one stack's memory to its place in the file, pages of zeros left out."""
    for address, length, offset in inside:
        if address <= low and low + size <= address + length:
            try:
                data = memory(low, size)
            except gdb.MemoryError:
                return 0 # one that was freed and closed
            for i in range(0, size, 4096):
                if data[i:i + 4096].strip(b'\0'):
                    f.seek(offset + low - address + i)
                    f.write(data[i:i + 4096])
            return 1
    return 0


class Core(Command):
    """Write a core file of the program that has the simulated stacks, too.

Usage: kss-core FILE
generate-core-file gives up on a mapping at the first guard page, where the host's guards do not show as mappings
of their own (Linux 6.13 and later); this adds what it left out."""

    def __init__(self, name):
        super().__init__(name, gdb.COMPLETE_FILENAME)

    def run(self, argv):
        if len(argv) != 1:
            raise Trouble('kss-core takes the name of the file to write')
        found = machines()
        if is_core():
            raise Trouble('this is a core file already')
        try:
            gdb.execute('generate-core-file %s' % argv[0], to_string=True)
        except gdb.error as e:
            raise Trouble('%s: gdb writes no core file: %s' % (argv[0], e)) from None
        count = 0
        try:
            with open(argv[0], 'r+b') as f:
                inside = list(segments(f))
                for m in found:
                    count += sum(fill_in(f, inside, low, size) for low, size in stacks(m))
        except OSError as e:
            raise Trouble('%s: %s' % (argv[0], e.strerror)) from None
        gdb.write('%s: core file with %d simulated stacks\n' % (argv[0], count))


Core('kss-core')
