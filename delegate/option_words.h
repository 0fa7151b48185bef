/* SPDX-License-Identifier: MIT */
/* The options that name operations: allow and deny. */
#ifndef CERMET_OPTION_WORDS_H
#define CERMET_OPTION_WORDS_H

#include "base.h"

/* "conv_2d, 7-9" to the one spelling that goes into the key: upper case, sorted, each once, joined by '+'. The text is
 * malloc'ed, and replaced; false with a reason when a word of it is neither a name nor a range. */
bool
cermet_normalise_words(const char *key, char **text, struct cermet_error *error);

#endif
