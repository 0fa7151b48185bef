/* SPDX-License-Identifier: MIT */
/* What the delegate tells when it has been applied to a graph. */
#ifndef CERMET_SUMMARY_H
#define CERMET_SUMMARY_H

#include "session.h"

/* Nodes that the session's plan takes. */
uint32_t
cermet_num_taken(const struct cermet_session *session);

/* One line: how many nodes run where, or why none does; with log_level=info one for each node on the CPU. */
void
cermet_log_summary(const struct cermet_session *session, int64_t plan_ns);

#endif
