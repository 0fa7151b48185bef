/* SPDX-License-Identifier: MIT */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

bool
cermet_fail(struct cermet_error *error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	cermet_make_printable(error->text);
	return false;
}

/* Bytes of the UTF-8 character at `text` (NUL-terminated); 0 when it is not one. */
static size_t
utf8_length(const unsigned char *text)
{
	size_t length = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if (length == 3 && ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] >= 0xa0)))
		return 0; /* overlong, or half of a surrogate pair */
	if (length == 4 && ((text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] >= 0x90)))
		return 0; /* overlong, or beyond U+10FFFF */
	return length;
}

void
cermet_make_printable(char *text)
{
	unsigned char *at = (unsigned char *)text;

	while (*at) {
		size_t length = utf8_length(at);

		if (length == 0 || *at < 0x20 || *at == 0x7f)
			*at = '?';
		at += length ? length : 1;
	}
}

void
cermet_log(enum cermet_log_level wanted, enum cermet_log_level level, const char *format, ...)
{
	char line[1024];
	va_list arguments;

	if (level > wanted)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	cermet_make_printable(line);
	fprintf(stderr, "cermet: %s\n", line);
}

int64_t
cermet_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
