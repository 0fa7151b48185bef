// SPDX-License-Identifier: MIT
/* Features and weights as the multipliers take them: channels of a pixel side by side, in 16 bits. */
#include <stddef.h>
#include <string.h>

#include "isa.h"

enum { INPUT_BLOCK = 32 };

static void
fill_lanes(int16_t *pixel, const int8_t *lanes, int32_t channels)
{
   for (int32_t c = 0; c < channels; c++)
      pixel[c] = lanes[c];
}

static void
fill_window(const struct cermet_sim_fill *f, int16_t *window)
{
   size_t pixel_elements = (size_t)f->channels;
   size_t row_elements = pixel_elements * (size_t)f->columns;
   int32_t surfaces = f->channels / ATOM;

   for (int32_t row = 0; row < f->rows; row++) {
      int16_t *line = window + (size_t)row * row_elements;
      int32_t y = row - f->pad_top;
      int real_row = y >= 0 && y % f->spread_y == 0 && y / f->spread_y < f->height;
      const int8_t *from_row = real_row ? f->source + y / f->spread_y * f->row_step : NULL;

      for (int32_t column = 0; column < f->columns; column++) {
         int16_t *pixel = line + (size_t)column * pixel_elements;
         int32_t x = column - f->pad_left;
         if (!real_row || x < 0 || x % f->spread_x || x / f->spread_x >= f->width) {
            fill_lanes(pixel, f->lanes, f->channels);
            continue;
         }
         const int8_t *from = from_row + x / f->spread_x * f->column_step;
         for (int32_t s = 0; s < surfaces; s++)
            for (int i = 0; i < ATOM; i++)
               pixel[s * ATOM + i] = from[s * f->surface_step + i];
      }
   }
}

static void
sum_channels(const int16_t *window, int64_t pixels, int32_t channels, int32_t *sums)
{
   for (int64_t p = 0; p < pixels; p++) {
      int32_t sum = 0;
      for (int32_t c = 0; c < channels; c++)
         sum += window[p * channels + c];
      sums[p] = sum;
   }
}

static void
pack_depthwise(const struct cermet_sim_weights *w)
{
   const int8_t *from = w->stored;

   for (int32_t first = 0; first < w->channels; first += DEPTHWISE_GROUP) {
      int32_t width = w->channels - first < DEPTHWISE_GROUP ? w->channels - first : DEPTHWISE_GROUP;
      for (int32_t tap = 0; tap < w->taps; tap++, from += width)
         for (int32_t c = 0; c < width; c++)
            w->packed[(size_t)tap * (size_t)w->channels + (size_t)(first + c)] = from[c];
   }
}

/* One tap of a block: rows kernels of width channels (even) each, which the kernels of a group share pair by pair. */
static void
pack_block(const int8_t *from, int32_t rows, int32_t width, int16_t *to)
{
   for (int32_t pair = 0; pair < width / 2; pair++, to += 2 * GROUP)
      for (int32_t row = 0; row < rows; row++) {
         to[2 * row] = from[row * width + 2 * pair];
         to[2 * row + 1] = from[row * width + 2 * pair + 1];
      }
}

static void
pack_direct(const struct cermet_sim_weights *w)
{
   size_t group_elements = GROUP * (size_t)w->taps * (size_t)w->channels;
   const int8_t *from = w->stored;
   int16_t *packed = w->packed;

   for (int32_t first = 0; first < w->kernels; first += GROUP, packed += group_elements) {
      int32_t rows = w->kernels - first < GROUP ? w->kernels - first : GROUP;
      if (rows < GROUP)
         memset(packed, 0, sizeof(*packed) * group_elements);
      for (int32_t block = 0; block < w->channels; block += INPUT_BLOCK) {
         int32_t width = w->channels - block < INPUT_BLOCK ? w->channels - block : INPUT_BLOCK;
         for (int32_t tap = 0; tap < w->taps; tap++, from += rows * width)
            pack_block(from, rows, width, packed + ((size_t)tap * (size_t)w->channels + (size_t)block) * GROUP);
      }
   }
}

void
ISA_NAME(prepare)(const struct cermet_sim_fill *fill, const struct cermet_sim_weights *weights, int16_t *window,
                  int32_t *sums)
{
   fill_window(fill, window);
   if (weights->depthwise)
      pack_depthwise(weights);
   else
      pack_direct(weights);
   if (sums)
      sum_channels(window, (int64_t)fill->rows * fill->columns, fill->channels, sums);
}
