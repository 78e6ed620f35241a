/* SPDX-License-Identifier: MIT */
/* The kernel's only way to user memory. */
#ifndef KSTACKSIM_UACCESS_H
#define KSTACKSIM_UACCESS_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/**
 * Copies n bytes from or to user memory. A bad pointer (NULL, unmapped, a guard, a kernel stack,
 * read-only, a range that wraps around) does no harm. Returns how many bytes could NOT be copied: 0
 * is success; the bytes before the bad one have been copied. Context: kernel; privileged.
 */
KSS_API size_t kss_copy_from_user(void *to, const void *from, size_t n);
KSS_API size_t kss_copy_to_user(void *to, const void *from, size_t n);
/**
 * Copies a string of at most size - 1 characters and ends it. Returns its length; -EFAULT, or
 * -ENAMETOOLONG when no end was found. Context: kernel; privileged.
 */
KSS_API long kss_copy_string_from_user(char *to, const char *from, size_t size);
/** Whether [p, p+n) could be user memory: no wrap-around, no kernel stack. Context: kernel. */
KSS_API bool kss_access_ok(const void *p, size_t n);

KSS_END_DECLS
#endif
