/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The request that a goroutine serves, read from the program's memory:
 * profiler/goruntime/FORMAT.md has the way to it.
 */
#ifndef FLEETPROF_REQUEST_H
#define FLEETPROF_REQUEST_H

#include "executor.h"

/* A string of Go: address and length. */
struct go_string {
	__u64 address;
	__u64 length;
};

/* Copies the first bytes of a string, and returns the length of all of it. */
static __always_inline __u32 copy_string(__u8 *to, __u32 size, __u64 record, __s32 offset)
{
	struct go_string s = {};
	__u32 bytes;

	if (offset < 0 || bpf_probe_read_user(&s, sizeof(s), (void *)(record + offset)))
		return 0;
	bytes = s.length < size ? s.length : size;
	if (bytes == 0 || bytes > size || bpf_probe_read_user(to, bytes, (void *)s.address))
		return 0;
	return s.length < 1U << 31 ? s.length : 1U << 31;
}

/* Whether the slots of a goroutine's stack hold what they are for: that they do if its
 * stack pointer is, or was, further down than the frame they are in. sp is that of
 * its thread and m the thread, 0 if it is on none or that is not known. */
static __always_inline bool is_deep(const struct layout *l, __u64 g, __u64 m, __u64 sp, __u64 limit)
{
	__u64 lo = field(g, l->stack_lo);
	__u64 left = field(g, l->sched_sp);
	__u64 vdso = m ? field(m, l->vdso_sp) : 0;

	return (sp >= lo && sp < limit) || (left >= lo && left < limit) || (vdso >= lo && vdso < limit);
}

/* Reads the request that a goroutine serves; false if it serves none. One that has
 * started another goroutine has filled its slots: deep says so. */
static __always_inline bool read_request(const struct layout *l, const struct served *way, __u64 g, bool deep,
					 __u64 m, __u64 sp, struct request *r)
{
	__u64 hi = field(g, l->stack_hi);
	__u64 state, owner, request, url;
	__u8 done = 0;

	if (hi == 0 || (!deep && !is_deep(l, g, m, sp, hi - way->depth)))
		return false;
	state = user_word(hi - way->slot);
	if (state && way->state >= 0)
		state = user_word(state + way->state);
	owner = user_word(hi - way->owner_slot);
	if (state == 0 || owner == 0 || (way->owner >= 0 && user_word(state + way->owner) != owner))
		return false;
	if (way->done >= 0 && (bpf_probe_read_user(&done, 1, (void *)(state + way->done)) || done))
		return false;
	request = way->request >= 0 ? user_word(state + way->request) : state;
	if (request == 0)
		return false;
	r->request = way->kind;
	r->id = request;
	if (way->kind == REQUEST_GRPC) {
		r->path_length = copy_string(r->path, PATH_BYTES, request, way->method);
		return r->path_length > 0 && r->path[0] == '/';
	}
	url = field(request, l->request_url);
	if (url == 0)
		return false;
	r->method_length = copy_string(r->method, METHOD_BYTES, request, l->request_method);
	r->route_length = copy_string(r->route, PATH_BYTES, request, l->request_pattern);
	r->path_length = copy_string(r->path, PATH_BYTES, url, l->url_path);
	return r->path_length > 0 || r->route_length > 0;
}

#endif
