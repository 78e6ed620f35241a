# SPDX-License-Identifier: MIT
"""Commands of gdb for programs that run a machine of libkstacksim, live or in a core file: see
kstacksim-gdb(7). gdb loads this by itself together with an installed library; or source it.

Everything is read from memory, through the library's debug information; nothing is called in the
program and nothing is written to it. What is damaged is said to be, and the rest is shown.
"""
import importlib
import os
import sys

# The installed one has the folder of its modules here; in the source tree they are beside it.
MODULES = '@modules@'


def load():
    before = list(sys.path), sys.dont_write_bytecode
    for name in [n for n in sys.modules if n.partition('.')[0] == 'kstacksim_gdb']:
        del sys.modules[name] # sourced again
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)) if MODULES.startswith('@') else MODULES)
    sys.dont_write_bytecode = True # nothing that an uninstallation would leave behind
    try:
        for name in ('commands', 'kstack', 'core'):
            importlib.import_module('kstacksim_gdb.' + name)
    finally:
        sys.path[:], sys.dont_write_bytecode = before


load()
