/* SPDX-License-Identifier: MIT */
/* What TFLite calls for a partition that the NPU runs. */
#ifndef CERMET_KERNEL_H
#define CERMET_KERNEL_H

#include "session.h"

/* The session that the delegate is being applied for: kernels are initialised inside
 * ReplaceNodeSubsetsWithDelegateKernels, on the same thread. */
struct cermet_applying {
	struct cermet_session *session;
};

/* Registration of the kernels. delegate->data_ must be a struct cermet_applying * while kernels are initialised. */
struct TfLiteRegistration
cermet_kernel_registration(void);

#endif
