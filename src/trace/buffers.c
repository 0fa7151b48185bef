/* SPDX-License-Identifier: MIT */
/* The buffers of an open file: a view of each, a copy of what the trace has of it, the difference into the trace. */
#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cermet_client.h"
#include "writer.h"

#define FRAME_PAGES 1024 /* pages of one frame at most */

struct bo *
bo_find(const struct file *file, uint32_t handle)
{
   for (size_t i = 0; handle && i < file->num_bos; i++)
      if (file->bos[i].handle == handle)
         return &file->bos[i];
   return NULL;
}

/* The recorder's own view: applications need not map what they only pass from job to job. */
static void
map_bo(struct file *file, int fd, struct bo *bo)
{
   void *map = file->is_simulated
                  ? cermet_client_mmap(NULL, bo->size_bytes, PROT_READ, MAP_SHARED, fd, (off_t)bo->offset)
                  : (void *)syscall(SYS_mmap, NULL, bo->size_bytes, PROT_READ, MAP_SHARED, fd, (off_t)bo->offset);

   if (map == MAP_FAILED) {
      trace_note(TRACE_NOTE_WARNING, "handle %u: cannot be mapped, its contents are not recorded: %s", bo->handle,
                 strerror(errno));
      return;
   }
   syscall(SYS_madvise, map, bo->size_bytes, MADV_DONTFORK);
   bo->map = map;
}

static struct bo *
new_slot(struct file *file)
{
   for (size_t i = 0; i < file->num_bos; i++)
      if (!file->bos[i].handle)
         return &file->bos[i];
   struct bo *larger = realloc(file->bos, (file->num_bos + 1) * sizeof(*larger));
   if (!larger)
      return NULL;
   file->bos = larger;
   return &file->bos[file->num_bos++];
}

void
bo_add(struct file *file, int fd, const struct drm_rocket_create_bo *made)
{
   struct bo *bo = bo_find(file, made->handle);

   if (bo) /* closed by a process that shares the file */
      bo_forget(bo);
   bo = new_slot(file);
   if (!bo)
      return;
   const uint64_t pages = ((uint64_t)made->size + TRACE_PAGE_BYTES - 1) / TRACE_PAGE_BYTES;
   *bo = (struct bo){.handle = made->handle, .size_bytes = pages * TRACE_PAGE_BYTES, .offset = made->offset,
                     .address = made->dma_address};
   void *known = (void *)syscall(SYS_mmap, NULL, bo->size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                                 0L);
   if (known == MAP_FAILED) {
      trace_note(TRACE_NOTE_WARNING, "handle %u: no memory to record its contents", bo->handle);
      return;
   }
   bo->known = known;
   map_bo(file, fd, bo);
}

void
bo_forget(struct bo *bo)
{
   if (bo->map)
      syscall(SYS_munmap, bo->map, bo->size_bytes);
   if (bo->known)
      syscall(SYS_munmap, bo->known, bo->size_bytes);
   *bo = (struct bo){0};
}

/* Changed pages from *page on, at most FRAME_PAGES of them, into runs and the known contents. Number of runs. */
static uint32_t
take_changes(struct bo *bo, uint64_t *page, struct trace_run *runs, uint32_t *num_pages)
{
   const uint64_t end = bo->size_bytes / TRACE_PAGE_BYTES;
   uint32_t num_runs = 0;

   for (*num_pages = 0; *page < end && *num_pages < FRAME_PAGES; ++*page) {
      const uint64_t at = *page * TRACE_PAGE_BYTES;

      if (memcmp(bo->map + at, bo->known + at, TRACE_PAGE_BYTES) == 0)
         continue;
      memcpy(bo->known + at, bo->map + at, TRACE_PAGE_BYTES);
      if (num_runs && runs[num_runs - 1].first_page + runs[num_runs - 1].num_pages == *page)
         runs[num_runs - 1].num_pages++;
      else
         runs[num_runs++] = (struct trace_run){(uint32_t)*page, 1};
      ++*num_pages;
   }
   return num_runs;
}

/* From the copy, which nobody changes while it is written. */
static void
write_runs(const struct trace_pages *record, const struct bo *bo, const struct trace_run *runs)
{
   static struct piece pieces[2 + FRAME_PAGES];

   pieces[0] = (struct piece){record, sizeof(*record)};
   pieces[1] = (struct piece){runs, record->num_runs * sizeof(*runs)};
   for (uint32_t i = 0; i < record->num_runs; i++)
      pieces[2 + i] = (struct piece){bo->known + (uint64_t)runs[i].first_page * TRACE_PAGE_BYTES,
                                     (size_t)runs[i].num_pages * TRACE_PAGE_BYTES};
   trace_write(TRACE_PAGES, pieces, 2 + record->num_runs);
}

void
bo_record(struct file *file, int fd, struct bo *bo, uint32_t side)
{
   static struct trace_run runs[FRAME_PAGES];
   struct trace_pages record = {.file = file->number, .bo_bytes = bo->size_bytes, .handle = bo->handle, .side = side};

   if (!bo->known || trace_is_full())
      return;
   if (!bo->map)
      map_bo(file, fd, bo);
   if (!bo->map)
      return;
   for (uint64_t page = 0; page < bo->size_bytes / TRACE_PAGE_BYTES;) {
      record.num_runs = take_changes(bo, &page, runs, &record.num_pages);
      if (record.num_runs)
         write_runs(&record, bo, runs);
   }
}

/* --- programs ----------------------------------------------------------------------------------------------------- */

/* The only registers that the recorder knows, as a program word names them: block in bits 48.., offset in bits 0... */
#define CBUF_CON0 UINT64_C(0x0201000000001040)
#define EW_CFG UINT64_C(0x1001000000004070)
#define LUT_ACCESS_CFG UINT64_C(0x1001000000004100)
#define LUT_ACCESS_DATA UINT64_C(0x1001000000004104)
#define DPU UINT64_C(0x1001000000000000)
#define BLOCK_MASK UINT64_C(0xFFFF000000000000)
#define REGISTER_MASK UINT64_C(0xFFFF00000000FFFF)
#define CBUF_REUSE (3 << 12) /* WEIGHT_REUSE, DATA_REUSE */
#define EW_BYPASS (1 << 0)
#define EW_LUT_BYPASS (1 << 7)
#define LUT_WORDS 513 /* of each of the two tables */

static const struct bo *
bo_at(const struct file *file, uint64_t address, uint64_t bytes)
{
   for (size_t i = 0; i < file->num_bos; i++) {
      const struct bo *bo = &file->bos[i];

      if (bo->known && address >= bo->address && address - bo->address + bytes <= bo->size_bytes)
         return bo;
   }
   return NULL;
}

bool
program_needs_previous(const struct file *file, uint32_t address, uint32_t num_words)
{
   const uint64_t bytes = (uint64_t)num_words * sizeof(uint64_t);
   const struct bo *bo = bo_at(file, address & ~15u, bytes);
   uint32_t num_lut_words = 0;
   bool uses_lut = false, reuses = false;

   for (uint64_t at = 0; bo && at < bytes; at += sizeof(uint64_t)) {
      uint64_t word;
      memcpy(&word, bo->known + (address & ~15u) - bo->address + at, sizeof(word));
      const uint32_t value = (uint32_t)(word >> 16);

      if ((word & REGISTER_MASK) == CBUF_CON0)
         reuses = value & CBUF_REUSE;
      else if ((word & REGISTER_MASK) == EW_CFG)
         uses_lut = !(value & (EW_BYPASS | EW_LUT_BYPASS));
      else if ((word & REGISTER_MASK) == LUT_ACCESS_DATA)
         num_lut_words++;
   }
   return reuses || (uses_lut && num_lut_words < 2 * LUT_WORDS);
}

uint32_t
program_dpu_words(const struct file *file, uint32_t address, uint32_t num_words)
{
   const uint64_t bytes = (uint64_t)num_words * sizeof(uint64_t);
   const struct bo *bo = bo_at(file, address & ~15u, bytes);
   uint32_t found = 0;

   for (uint64_t at = 0; bo && at < bytes; at += sizeof(uint64_t)) {
      uint64_t word;
      memcpy(&word, bo->known + (address & ~15u) - bo->address + at, sizeof(word));
      const uint64_t place = word & REGISTER_MASK;
      found += (word & BLOCK_MASK) == DPU && place != LUT_ACCESS_CFG && place != LUT_ACCESS_DATA;
   }
   return found;
}
