// SPDX-License-Identifier: MIT
/* Convolutions: sums of products, then the DPU's stages. */
#include <math.h>
#include <stddef.h>

#include "dpu.h"
#include "isa.h"
#include "multiply.h"

enum { MAX_TAPS = 31 * 31, MAX_SEGMENT = (1 << 17) - 1 };

static void
tap_offsets(const struct cermet_sim_conv *c, ptrdiff_t *offsets)
{
   for (int32_t y = 0; y < c->kernel_height; y++)
      for (int32_t x = 0; x < c->kernel_width; x++)
         *offsets++ = ((ptrdiff_t)y * c->dilation_y * c->window_width + (ptrdiff_t)x * c->dilation_x) * c->channels;
}

static ptrdiff_t
pixel_index(const struct cermet_sim_conv *c, int32_t row, int32_t column)
{
   return (ptrdiff_t)row * c->stride_y * c->window_width + (ptrdiff_t)column * c->stride_x;
}

static double
input_sum(const struct cermet_sim_conv *c, int32_t row, int32_t column)
{
   const int32_t *at = c->input_sums + pixel_index(c, row, column);
   int64_t sum = 0;

   for (int32_t y = 0; y < c->kernel_height; y++)
      for (int32_t x = 0; x < c->kernel_width; x++)
         sum += at[(ptrdiff_t)y * c->dilation_y * c->window_width + (ptrdiff_t)x * c->dilation_x];
   return (double)sum;
}

/* Sums of one tile over all taps. 32-bit accumulators hold MAX_SEGMENT products of -128 * -128. */
static void
accumulate(const struct cermet_sim_conv *c, const ptrdiff_t *taps, struct tile *t, const int16_t *weights, int count,
           double v[TILE][GROUP])
{
   int32_t acc[TILE][GROUP], num_taps = c->kernel_width * c->kernel_height, step = MAX_SEGMENT / c->channels;

   for (int32_t first = 0; first < num_taps; first += step) {
      t->taps = taps + first;
      t->num_taps = num_taps - first < step ? num_taps - first : step;
      t->weights = weights + (ptrdiff_t)first * c->channels * GROUP;
      multiply_tile(t, count, acc);
      for (int i = 0; i < count; i++)
         for (int k = 0; k < GROUP; k++)
            v[i][k] = first ? v[i][k] + acc[i][k] : acc[i][k];
   }
}

static void
truncate_accumulator(const struct cermet_sim_post *p, double *v, int n)
{
   double scale = power(p->truncate);

   if (p->truncate && p->truncate_up)
      for (int i = 0; i < n; i++)
         v[i] = floor(v[i] * scale + 0.5);
   else if (p->truncate)
      for (int i = 0; i < n; i++)
         v[i] = rint(v[i] * scale);
   for (int i = 0; i < n; i++)
      v[i] = clamp(v[i], INT32_LOW, INT32_HIGH);
}

static void
direct_tile(const struct cermet_sim_conv *c, const struct cermet_sim_post *p, const ptrdiff_t *taps, int64_t first,
            int count, int32_t channel)
{
   const int16_t *weights = c->weights + (ptrdiff_t)channel * c->kernel_width * c->kernel_height * c->channels;
   struct tile t = {.channels = c->channels};
   double v[TILE][GROUP];

   for (int i = 0; i < count; i++)
      t.pixels[i] = c->window + pixel_index(c, (int32_t)((first + i) / c->out_width),
                                            (int32_t)((first + i) % c->out_width)) * c->channels;
   accumulate(c, taps, &t, weights, count, v);
   for (int i = 0; i < count; i++) {
      int32_t row = (int32_t)((first + i) / c->out_width), column = (int32_t)((first + i) % c->out_width);
      if (p->weight_offset) {
         double sum = input_sum(c, row, column);
         for (int k = 0; k < GROUP; k++)
            v[i][k] += p->weight_offset[channel + k] * sum;
      }
      truncate_accumulator(p, v[i], GROUP);
      finish_pixel(p, v[i], GROUP, channel, row, column);
   }
}

static void
depthwise_pixel(const struct cermet_sim_conv *c, const struct cermet_sim_post *p, const ptrdiff_t *taps,
                int32_t row, int32_t column, int32_t channel)
{
   int32_t num_taps = c->kernel_width * c->kernel_height;
   int32_t n = c->channels - channel < DEPTHWISE_GROUP ? c->channels - channel : DEPTHWISE_GROUP;
   const int16_t *pixel = c->window + pixel_index(c, row, column) * c->channels + channel;
   int32_t acc[DEPTHWISE_GROUP] = {0}, sum[DEPTHWISE_GROUP] = {0};
   double v[DEPTHWISE_GROUP];

   for (int32_t tap = 0; tap < num_taps; tap++) {
      const int16_t *x = pixel + taps[tap], *w = c->weights + (ptrdiff_t)tap * c->channels + channel;
      for (int i = 0; i < n; i++)
         acc[i] += x[i] * w[i];
      for (int i = 0; p->weight_offset && i < n; i++)
         sum[i] += x[i];
   }
   for (int i = 0; i < DEPTHWISE_GROUP; i++)
      v[i] = acc[i];
   for (int i = 0; p->weight_offset && i < DEPTHWISE_GROUP; i++)
      v[i] += (double)p->weight_offset[channel + i] * sum[i];
   truncate_accumulator(p, v, DEPTHWISE_GROUP);
   finish_pixel(p, v, DEPTHWISE_GROUP, channel, row, column);
}

void
ISA_NAME(conv)(const struct cermet_sim_conv *c, const struct cermet_sim_post *p, int64_t first, int64_t last,
               int32_t first_channel, int32_t last_channel)
{
   ptrdiff_t taps[MAX_TAPS];

   tap_offsets(c, taps);
   if (c->depthwise) {
      for (int64_t at = first; at < last; at++)
         for (int32_t channel = first_channel; channel < last_channel; channel += DEPTHWISE_GROUP)
            depthwise_pixel(c, p, taps, (int32_t)(at / c->out_width), (int32_t)(at % c->out_width), channel);
      return;
   }
   for (int32_t channel = first_channel; channel < last_channel; channel += GROUP)
      for (int64_t at = first; at < last; at += TILE)
         direct_tile(c, p, taps, at, last - at < TILE ? (int)(last - at) : TILE, channel);
}
