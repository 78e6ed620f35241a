#!/bin/sh
# SPDX-License-Identifier: MIT
# Writes man/local.mk: every page and link in this folder.
cd "$(dirname "$0")" || exit 1
{
    echo "# Made by man/gen-list.sh."
    echo "EXTRA_DIST += man/gen-list.sh"
    for f in *.1 *.3 *.7; do
        echo "dist_man_MANS += man/$f"
    done
} > local.mk
