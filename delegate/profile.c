/* SPDX-License-Identifier: MIT */
#include "profile.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void
cermet_profile_init(struct cermet_profile *profile)
{
	*profile = (struct cermet_profile){0};
	pthread_mutex_init(&profile->lock, NULL);
}

bool
cermet_profile_open(struct cermet_profile *profile, const char *path, struct cermet_error *error)
{
	if (!path)
		return true;
	profile->file = fopen(path, "we");
	if (!profile->file)
		return cermet_fail(error, "option profile: %s: %s", path, strerror(errno));
	return fputs("[\n", profile->file) >= 0 || cermet_fail(error, "option profile: %s: cannot be written", path);
}

static void
add_span(struct cermet_profile *profile, const char *name, uint32_t partition, int64_t start_ns, int64_t duration_ns)
{
	fprintf(profile->file, "%s{\"ph\": \"X\", \"name\": \"%s\", \"cat\": \"partition %u\", \"pid\": %ld, \"tid\": %u, "
	        "\"ts\": %.3f, \"dur\": %.3f}", profile->has_events ? ",\n" : "", name, partition, (long)getpid(), partition,
	        (double)start_ns / 1e3, (double)duration_ns / 1e3);
	profile->has_events = true;
}

void
cermet_profile_add(struct cermet_profile *profile, uint32_t partition, int64_t start_ns,
                   const struct cermet_times *before, const struct cermet_times *after)
{
	const int64_t inputs_ns = after->inputs_ns - before->inputs_ns, device_ns = after->device_ns - before->device_ns;

	if (!profile->file || after->num_runs == before->num_runs)
		return;
	pthread_mutex_lock(&profile->lock);
	add_span(profile, "convert in", partition, start_ns, inputs_ns);
	add_span(profile, "NPU", partition, start_ns + inputs_ns, device_ns);
	add_span(profile, "convert out", partition, start_ns + inputs_ns + device_ns,
	         after->outputs_ns - before->outputs_ns);
	fflush(profile->file); /* what there is can be read whatever becomes of the process; viewers need no last bracket */
	pthread_mutex_unlock(&profile->lock);
}

void
cermet_profile_close(struct cermet_profile *profile)
{
	pthread_mutex_destroy(&profile->lock);
	if (!profile->file)
		return;
	fputs("\n]\n", profile->file);
	fclose(profile->file);
	profile->file = NULL;
}
