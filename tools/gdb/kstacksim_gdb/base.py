# SPDX-License-Identifier: MIT
"""Memory that may be damaged, symbols, gdb's own selection, and commands whose errors are one sentence."""
import contextlib

import gdb


class Trouble(Exception):
    """A command can't do what it was asked; the text is for the person."""


def member(value, *path, default=None):
    """value.a.b... as a number; the default where memory can't be read."""
    try:
        for name in path:
            value = value[name]
        return int(value)
    except gdb.MemoryError:
        return default


def text(value, default='?'):
    """A C string or character array."""
    try:
        if value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR:
            if int(value) == 0:
                return ''
            s = value.string(errors='replace', length=64)
        else:
            s = value.string(errors='replace', length=value.type.sizeof)
    except (gdb.MemoryError, gdb.error):
        return default
    return ''.join(c if c.isprintable() else '?' for c in s.split('\0')[0])


def enum(value, prefix):
    """An enumeration's name without its prefix, in the library's words; the number if it has none."""
    try:
        name = str(value)
    except gdb.MemoryError:
        return '?'
    return name[len(prefix):].replace('_', ' ') if name.startswith(prefix) else '(%s)' % name


def memory(low, size):
    return bytes(gdb.selected_inferior().read_memory(low, size))


def words(value):
    return '?' if value is None else str(value)


def symbol(pc):
    """function+offset, or the address."""
    s = gdb.execute('info symbol %#x' % pc, to_string=True)
    if s.startswith('No symbol'):
        return '%#x' % pc
    name = s.split(' in section ')[0].strip()
    function, plus, offset = name.partition(' + ')
    return '%s+%#x' % (function, int(offset)) if plus else function


def is_core():
    connection = getattr(gdb.selected_inferior(), 'connection', None)
    return connection is not None and connection.type == 'core'


def register(frame, name):
    return int(frame.read_register(name)) & (1 << 64) - 1


@contextlib.contextmanager
def preserved():
    """gdb's selected thread and frame are afterwards what they were."""
    thread = gdb.selected_thread()
    try:
        level = gdb.selected_frame().level()
    except gdb.error:
        level = 0
    try:
        yield
    finally:
        with contextlib.suppress(gdb.error):
            thread.switch()
            frame = gdb.newest_frame()
            while frame is not None and frame.level() < level:
                frame = frame.older()
            if frame is not None:
                frame.select()


class Command(gdb.Command):
    """Errors become one sentence."""

    def __init__(self, name, completer=gdb.COMPLETE_NONE):
        super().__init__(name, gdb.COMMAND_STACK, completer)

    def invoke(self, argument, from_tty):
        self.dont_repeat()
        try:
            self.run(gdb.string_to_argv(argument))
        except Trouble as e:
            raise gdb.GdbError(str(e)) from None
        except gdb.MemoryError as e:
            raise gdb.GdbError('memory that is needed cannot be read: %s' % e) from None
        except gdb.GdbError:
            raise
        except Exception as e: # a structure that this script does not know, most likely
            raise gdb.GdbError('the library is not of the version that this script was made for, or memory is damaged '
                               'beyond reading: %s' % e) from None
