/* SPDX-License-Identifier: MIT */
/* Golden texts: reports without what differs between hosts, compilers and runs. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stddef.h>
#include <stdbool.h>

#include <kstacksim/report.h>

/* Appends a report's text (kss_report_format()): numbers as N, addresses as ADDR, of the backtrace the functions of
   this program only, no trace events. */
void golden_append(char *out, size_t size, const struct kss_report *report, const char *text);
/* Is `text` what the file holds? With KSS_GOLDEN_WRITE in the environment the file is written instead. */
bool golden_same(const char *path, const char *text, char *difference, size_t size);

#endif
