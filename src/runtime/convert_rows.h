/* SPDX-License-Identifier: MIT */
/* What convert.c chooses from: the same conversions, for the baseline processor and for x86-64 with AVX2. */
#ifndef CERMET_CONVERT_ROWS_H
#define CERMET_CONVERT_ROWS_H

#include "base.h"
#include "cermet_plan.h"

void
cermet_rows_in(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo);

void
cermet_rows_out(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor);

void
cermet_rows_in_avx2(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo);

void
cermet_rows_out_avx2(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor);

#endif
