// SPDX-License-Identifier: MIT
/* Flying tasks: the DPU's stages on what it reads itself. */
#include "dpu.h"
#include "isa.h"

void
ISA_NAME(flying_rows)(const struct cermet_sim_surfaces *source, const struct cermet_sim_post *p, int32_t width,
                      int32_t first_row, int32_t last_row, int32_t first_surface, int32_t last_surface)
{
   for (int32_t surface = first_surface; surface < last_surface; surface++) {
      int odd = surface & 1;
      const int8_t *plane = source->base[odd] + (surface >> 1) * source->step[odd];
      for (int32_t row = first_row; row < last_row; row++)
         for (int32_t column = 0; column < width; column++) {
            const int8_t *from = plane + row * source->line[odd] + (int64_t)column * ATOM;
            double v[ATOM];
            for (int i = 0; i < ATOM; i++)
               v[i] = from[i];
            finish_pixel(p, v, ATOM, surface * ATOM, row, column);
         }
   }
}

