/* SPDX-License-Identifier: MIT */
/* What the model says of one operation beside its tensors. */
#ifndef CERMET_PARAMS_H
#define CERMET_PARAMS_H

#include <stdint.h>

#define CERMET_MAX_PARAMS 8

/* Values of builtin_data as the table in cermet_blob.h orders them; zeros when the model says nothing. Returns how many. */
uint32_t
cermet_read_params(int builtin_code, const void *data, int32_t params[CERMET_MAX_PARAMS]);

#endif
