// SPDX-License-Identifier: MIT
/* Multiply and accumulate: TILE pixels times the 32 kernels of a group. */
#ifndef CERMET_SIM_MULTIPLY_H
#define CERMET_SIM_MULTIPLY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "isa.h"

#if defined(__AVX512BW__)
enum { TILE = 8 };
#elif defined(__AVX2__)
enum { TILE = 3 };
#else
enum { TILE = 4 };
#endif

struct tile {
   const int16_t *pixels[TILE]; /* first tap of each */
   const ptrdiff_t *taps;
   int32_t num_taps, channels;
   const int16_t *weights;
};

#if defined(__AVX512BW__)

static inline __attribute__((always_inline)) void
multiply(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   __m512i low[TILE], high[TILE];
   const int16_t *w = t->weights;

   for (int p = 0; p < count; p++)
      low[p] = high[p] = _mm512_setzero_si512();
   for (int32_t tap = 0; tap < t->num_taps; tap++) {
      ptrdiff_t at = t->taps[tap];
      for (int32_t c = 0; c < t->channels; c += 2, w += 2 * GROUP) {
         __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + GROUP);
         for (int p = 0; p < count; p++) {
            int32_t pair;
            memcpy(&pair, t->pixels[p] + at + c, sizeof(pair));
            __m512i x = _mm512_set1_epi32(pair);
            low[p] = _mm512_add_epi32(low[p], _mm512_madd_epi16(x, w0));
            high[p] = _mm512_add_epi32(high[p], _mm512_madd_epi16(x, w1));
         }
      }
   }
   for (int p = 0; p < count; p++) {
      _mm512_storeu_si512(acc[p], low[p]);
      _mm512_storeu_si512(acc[p] + 16, high[p]);
   }
}

#elif defined(__AVX2__)

static inline __attribute__((always_inline)) void
multiply(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   __m256i sum[TILE][4];
   const int16_t *w = t->weights;

   for (int p = 0; p < count; p++)
      for (int i = 0; i < 4; i++)
         sum[p][i] = _mm256_setzero_si256();
   for (int32_t tap = 0; tap < t->num_taps; tap++) {
      ptrdiff_t at = t->taps[tap];
      for (int32_t c = 0; c < t->channels; c += 2, w += 2 * GROUP) {
         __m256i x[TILE];
         for (int p = 0; p < count; p++) {
            int32_t pair;
            memcpy(&pair, t->pixels[p] + at + c, sizeof(pair));
            x[p] = _mm256_set1_epi32(pair);
         }
         for (int i = 0; i < 4; i++) {
            __m256i wi = _mm256_loadu_si256((const __m256i *)(const void *)(w + i * 16));
            for (int p = 0; p < count; p++)
               sum[p][i] = _mm256_add_epi32(sum[p][i], _mm256_madd_epi16(x[p], wi));
         }
      }
   }
   for (int p = 0; p < count; p++)
      for (int i = 0; i < 4; i++)
         _mm256_storeu_si256((__m256i *)(void *)(acc[p] + i * 8), sum[p][i]);
}

#else

static inline __attribute__((always_inline)) void
multiply(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   const int16_t *w = t->weights;

   for (int p = 0; p < count; p++)
      memset(acc[p], 0, sizeof(acc[p]));
   for (int32_t tap = 0; tap < t->num_taps; tap++) {
      ptrdiff_t at = t->taps[tap];
      for (int32_t c = 0; c < t->channels; c += 2, w += 2 * GROUP)
         for (int p = 0; p < count; p++) {
            int32_t x0 = t->pixels[p][at + c], x1 = t->pixels[p][at + c + 1];
            for (int k = 0; k < GROUP; k++)
               acc[p][k] += x0 * w[2 * k] + x1 * w[2 * k + 1];
         }
   }
}

#endif

static void
multiply_tile(const struct tile *t, int count, int32_t acc[TILE][GROUP])
{
   if (count == TILE)
      multiply(t, TILE, acc);
   else
      multiply(t, count, acc);
}

#endif
