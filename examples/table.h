/* SPDX-License-Identifier: MIT */
/* A small table for people, through libsmartcols where it is there. */
#ifndef TABLE_H
#define TABLE_H
struct table;
/* align: one letter a column, l or r, separated by blanks. */
struct table *table_new(const char *const *head, int columns, const char *align);
/* A row: cells separated by '|'. */
void table_row(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints to standard output and frees it. */
void table_print(struct table *t);
#endif
