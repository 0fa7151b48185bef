/* SPDX-License-Identifier: MIT */
/*
 * What every file of the runtime and the delegate shares: the platforms that are supported, one line of error text,
 * messages on stderr.
 */
#ifndef CERMET_BASE_H
#define CERMET_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(__LP64__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "cermet: files and structs are those of 64-bit little-endian Linux (x86_64, aarch64)"
#endif

#define CERMET_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#define CERMET_COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct cermet_error {
	char text[512];
};

/* Write one line into error->text (cut when too long); always false, so that callers can return it. */
CERMET_PRINTF(2, 3)
bool
cermet_fail(struct cermet_error *error, const char *format, ...);

/* Replace bytes that are not UTF-8 and control characters by '?': Python loses a whole message over one such byte. */
void
cermet_make_printable(char *text);

enum cermet_log_level {
	CERMET_LOG_ERROR,
	CERMET_LOG_WARNING,
	CERMET_LOG_INFO,
	CERMET_LOG_DEBUG,
};

/* One line on stderr, "cermet: " in front, when `level` is wanted. Never stdout: applications pipe it. */
CERMET_PRINTF(3, 4)
void
cermet_log(enum cermet_log_level wanted, enum cermet_log_level level, const char *format, ...);

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t
cermet_now_ns(void);

#endif
