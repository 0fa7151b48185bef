/* SPDX-License-Identifier: MIT */
/* The parts of the check that cermet_plan_open() makes, each in the file of its subject. False with an error: refused. */
#ifndef CERMET_PLAN_CHECKS_H
#define CERMET_PLAN_CHECKS_H

#include "plan.h"

/* Whether count * size bytes at offset lie in the file, behind the header, 8-byte aligned. Nothing lies anywhere. */
bool
cermet_plan_table_is_inside(const struct cermet_plan_view *view, uint32_t offset, uint64_t count, size_t size,
                            const char *what, struct cermet_error *error);

/* Whether all tables of a partition do; adds their bytes to *num_table_bytes, which cannot pass the file's size. */
bool
cermet_plan_tables_are_inside(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
                              uint64_t *num_table_bytes, struct cermet_error *error);

/* One partition with all that its tables say. Strings, nodes and the table of partitions have been checked. */
bool
cermet_plan_check_partition(const struct cermet_plan_view *view, uint32_t number, uint64_t *num_table_bytes,
                            struct cermet_error *error);

/* A partition's inputs or outputs. Its BOs have been checked. */
bool
cermet_plan_check_ios(const struct cermet_plan_partition *partition, const struct cermet_plan_bo *bos,
                      const struct cermet_plan_io *ios, uint32_t num_ios, bool is_input, struct cermet_error *error);

#endif
