// SPDX-License-Identifier: MIT
/* Pooling: rows of one surface. */
#include <math.h>
#include <stddef.h>

#include "isa.h"

void
ISA_NAME(pool_rows)(const int16_t *band, int32_t band_columns, int32_t method, int32_t kernel_width,
                    int32_t kernel_height, int32_t stride_x, int32_t stride_y, int64_t reciprocal,
                    int32_t out_width, int32_t rows, int8_t *target, int64_t line_bytes)
{
   double scale = ldexp((double)reciprocal, -32);

   for (int32_t row = 0; row < rows; row++)
      for (int32_t column = 0; column < out_width; column++) {
         const int16_t *at = band + ((ptrdiff_t)row * stride_y * band_columns + (ptrdiff_t)column * stride_x) * ATOM;
         int8_t *to = target + row * line_bytes + (int64_t)column * ATOM;
         int32_t value[ATOM];
         for (int i = 0; i < ATOM; i++)
            value[i] = method == 0 ? 0 : at[i];
         for (int32_t y = 0; y < kernel_height; y++)
            for (int32_t x = 0; x < kernel_width; x++) {
               const int16_t *tap = at + ((ptrdiff_t)y * band_columns + x) * ATOM;
               for (int i = 0; i < ATOM; i++) {
                  int32_t other = tap[i];
                  if (method == 0)
                     value[i] += other;
                  else if (method == 1)
                     value[i] = value[i] > other ? value[i] : other;
                  else
                     value[i] = value[i] < other ? value[i] : other;
               }
            }
         for (int i = 0; i < ATOM; i++)
            to[i] = method == 0 ? (int8_t)(int64_t)rint(value[i] * scale) : (int8_t)value[i];
      }
}
