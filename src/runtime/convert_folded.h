/* SPDX-License-Identifier: MIT */
/* What convert.c chooses from for inputs whose pixels come in blocks: the baseline processor's, and x86-64's with AVX2. */
#ifndef CERMET_CONVERT_FOLDED_H
#define CERMET_CONVERT_FOLDED_H

#include "base.h"
#include "cermet_plan.h"

/* cermet_convert_in for an io with fold_y or fold_x above 1. */
void
cermet_folded_in(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo);

void
cermet_folded_in_avx2(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo);

#endif
