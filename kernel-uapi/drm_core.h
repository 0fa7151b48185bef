/* SPDX-License-Identifier: MIT */
/*
 * The few DRM core calls that work on an accel node, so that a program needs no libdrm headers.
 * Same rules as rocket_accel.h: the Python side parses this file. Behind the kernel's or libdrm's drm.h it is empty.
 */
#if !defined(CERMET_DRM_CORE_H) && !defined(_DRM_H_)
#define CERMET_DRM_CORE_H

#if defined(__linux__)
#include <linux/ioctl.h>
#include <linux/types.h>
#endif
#include <stddef.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define DRM_IOCTL_BASE 'd'
#define DRM_COMMAND_BASE 0x40
#define DRM_IOW(nr, type) _IOW(DRM_IOCTL_BASE, nr, type)
#define DRM_IOWR(nr, type) _IOWR(DRM_IOCTL_BASE, nr, type)

#define DRM_CAP_DUMB_BUFFER 0x1
#define DRM_CAP_PRIME 0x5
#define DRM_CAP_TIMESTAMP_MONOTONIC 0x6
#define DRM_CAP_SYNCOBJ 0x13
#define DRM_CAP_SYNCOBJ_TIMELINE 0x14

#define DRM_RDWR 0x2
#define DRM_CLOEXEC 0x80000

/* Driver name and version. Strings are copied up to the lengths given; the lengths come back as the full ones. */
struct drm_version {
	int version_major;
	int version_minor;
	int version_patchlevel;
	size_t name_len;
	char *name;
	size_t date_len;
	char *date;
	size_t desc_len;
	char *desc;
};

/* The device's unique name; on this node there is none, so the length comes back as 0. */
struct drm_unique {
	size_t unique_len;
	char *unique;
};

/* Facts about an open file; idx 0 is the caller's own, the only one there is. */
struct drm_client {
	int idx;
	int auth;
	unsigned long pid;
	unsigned long uid;
	unsigned long magic;
	unsigned long iocs;
};

struct drm_gem_close {
	__u32 handle;
	__u32 pad;
};

struct drm_get_cap {
	__u64 capability;
	__u64 value;
};

struct drm_gem_flink {
	__u32 handle;
	__u32 name;
};

struct drm_gem_open {
	__u32 name;
	__u32 handle;
	__u64 size;
};

/* A name for tools to show: at most 64 visible characters. */
struct drm_set_client_name {
	__u64 name_len;
	__u64 name;
};

struct drm_prime_handle {
	__u32 handle;
	__u32 flags;
	__s32 fd;
};

#define DRM_SYNCOBJ_CREATE_SIGNALED 0x1
#define DRM_SYNCOBJ_WAIT_ALL 0x1
#define DRM_SYNCOBJ_WAIT_FOR_SUBMIT 0x2

/* Sync objects: a place for a fence. Nodes whose driver does not have them answer EOPNOTSUPP. */
struct drm_syncobj_create {
	__u32 handle;
	__u32 flags;
};

struct drm_syncobj_destroy {
	__u32 handle;
	__u32 pad;
};

/* Wait for the fences in one or all of some sync objects; timeout_nsec is absolute CLOCK_MONOTONIC. */
struct drm_syncobj_wait {
	__u64 handles;
	__s64 timeout_nsec;
	__u32 count_handles;
	__u32 flags;
	__u32 first_signaled;
	__u32 pad;
	__u64 deadline_nsec;
};

struct drm_syncobj_array {
	__u64 handles;
	__u32 count_handles;
	__u32 pad;
};

#define DRM_IOCTL_VERSION DRM_IOWR(0x00, struct drm_version)
#define DRM_IOCTL_GET_UNIQUE DRM_IOWR(0x01, struct drm_unique)
#define DRM_IOCTL_GET_CLIENT DRM_IOWR(0x05, struct drm_client)
#define DRM_IOCTL_GEM_CLOSE DRM_IOW(0x09, struct drm_gem_close)
#define DRM_IOCTL_GEM_FLINK DRM_IOWR(0x0a, struct drm_gem_flink)
#define DRM_IOCTL_GEM_OPEN DRM_IOWR(0x0b, struct drm_gem_open)
#define DRM_IOCTL_GET_CAP DRM_IOWR(0x0c, struct drm_get_cap)
#define DRM_IOCTL_PRIME_HANDLE_TO_FD DRM_IOWR(0x2d, struct drm_prime_handle)
#define DRM_IOCTL_PRIME_FD_TO_HANDLE DRM_IOWR(0x2e, struct drm_prime_handle)
#define DRM_IOCTL_SYNCOBJ_CREATE DRM_IOWR(0xbf, struct drm_syncobj_create)
#define DRM_IOCTL_SYNCOBJ_DESTROY DRM_IOWR(0xc0, struct drm_syncobj_destroy)
#define DRM_IOCTL_SYNCOBJ_WAIT DRM_IOWR(0xc3, struct drm_syncobj_wait)
#define DRM_IOCTL_SYNCOBJ_RESET DRM_IOWR(0xc4, struct drm_syncobj_array)
#define DRM_IOCTL_SYNCOBJ_SIGNAL DRM_IOWR(0xc5, struct drm_syncobj_array)
#define DRM_IOCTL_SET_CLIENT_NAME DRM_IOWR(0xd1, struct drm_set_client_name)

#if defined(__cplusplus)
}
#endif

#endif
