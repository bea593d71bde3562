/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who executes on the current thread: the thread itself, or a goroutine. Go
 * says by process which programs have goroutines, and where they keep them.
 */
#ifndef FLEETPROF_EXECUTOR_H
#define FLEETPROF_EXECUTOR_H

#include "events.h"
#include "kernel.h"

/* Tgid → what it runs. User space writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES);
	__type(key, __u32);
	__type(value, struct program);
} programs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LAYOUTS);
	__type(key, __u32);
	__type(value, struct layout);
} layouts SEC(".maps");

/* A goroutine that serves requests, by its number → its g. Goroutines that it
 * started are told by it. Of more than this many the least recently used are
 * forgotten. */
struct goroutine_key {
	__u64 goroutine;
	__u32 tgid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct goroutine_key);
	__type(value, __u64);
} serving SEC(".maps");

/* Who executes. */
struct who {
	__u64 goroutine; /* its number, and that of the one that started it */
	__u64 parent;
	__u64 g; /* the goroutine itself */
	__u64 m;
	__u64 bias;
	__u32 layout;	/* its number */
	__u32 executor; /* enum executor */
	__u32 tgid;
	__u32 reserved;
};

static __always_inline __u64 user_word(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

/* The word at an offset that may be absent. */
static __always_inline __u64 field(__u64 record, __s32 offset)
{
	return offset < 0 ? 0 : user_word(record + offset);
}

/* The runtime.g of the thread: on amd64 at an offset from the thread pointer, on
 * arm64 in a register, x28, while Go code executes. from is the one or the other. */
static __always_inline __u64 thread_g(const struct layout *l, __u64 from)
{
#if defined(__TARGET_ARCH_x86)
	return user_word(from + l->tls);
#else
	return from;
#endif
}

/* atomicstatus and goid of a runtime.g, which follow each other in it. */
struct goroutine_state {
	__u32 status;
	__u32 lock;
	__u64 goid;
};

static __always_inline struct goroutine_state state_of(const struct layout *l, __u64 g)
{
	struct goroutine_state s = {};

	bpf_probe_read_user(&s, sizeof(s), (void *)(g + l->goid - offsetof(struct goroutine_state, goid)));
	return s;
}

/* Values of atomicstatus in runtime/runtime2.go. GSCAN may come with any other. */
#define GRUNNABLE 1
#define GDEAD 6
#define GSCAN 0x1000

/* Whether the goroutine has ended. Its memory stays as it was until another one gets it. */
static __always_inline bool is_dead(__u32 status) { return (status & ~GSCAN) == GDEAD; }

/* Whether the scheduler is about to execute the goroutine, or done with it for ever. */
static __always_inline bool is_between(__u32 status)
{
	return (status & ~GSCAN) == GRUNNABLE || is_dead(status);
}

/* The goroutine on the thread, from runtime.g to m to curg. g is a goroutine's own
 * or one of the runtime; curg is the goroutine's for all of them, and leads back to
 * m but for the moments in which they are bound or parted. */
static __always_inline void find_goroutine(const struct layout *l, __u64 from, struct who *who)
{
	__u64 g = thread_g(l, from);
	struct goroutine_state s;

	who->m = field(g, l->m);
	if (g == 0 || who->m == 0)
		return;
	who->g = field(who->m, l->curg);
	s = state_of(l, who->g);
	if (who->g == 0 || field(who->g, l->m) != who->m || is_between(s.status)) {
		who->executor = EXECUTOR_RUNTIME;
		return;
	}
	who->goroutine = s.goid;
	who->parent = field(who->g, l->parent);
	if (who->goroutine)
		who->executor = EXECUTOR_GOROUTINE;
}

/* The goroutine that has made a system call: it executes on its own stack, so g is
 * its own. Its parent is not told. */
static __always_inline void find_caller(const struct layout *l, __u64 from, struct who *who)
{
	who->g = thread_g(l, from);
	who->goroutine = who->g ? field(who->g, l->goid) : 0;
	if (who->goroutine) /* else g0, in C */
		who->executor = EXECUTOR_GOROUTINE;
}

/* Says who executes, given the address space: a thread, or nobody that is known. Of a
 * Go program it returns the layout, which find_goroutine() or find_caller() goes on
 * with. */
static __always_inline struct layout *find_executor(__u32 tgid, __u64 mm, __u64 exec_id, struct who *who)
{
	struct program *p = bpf_map_lookup_elem(&programs, &tgid);
	struct layout *l;

	*who = (struct who){.executor = EXECUTOR_UNKNOWN, .tgid = tgid};
	if (!p || p->mm != mm || p->exec_id != exec_id)
		return NULL;
	if (p->executor == EXECUTOR_THREAD)
		who->executor = EXECUTOR_THREAD;
	if (p->executor != EXECUTOR_GOROUTINE)
		return NULL;
	who->layout = p->layout;
	who->bias = p->bias;
	l = bpf_map_lookup_elem(&layouts, &who->layout);
	return l && l->generation == p->generation ? l : NULL;
}

/* How the goroutine serves requests, NULL if it does not. */
static __always_inline struct served *served_by(struct layout *l, __u64 g, __u64 bias)
{
	__u64 start = field(g, l->start_pc) - bias;

#pragma clang loop unroll(full)
	for (int i = 0; i < SERVED; i++) {
		if (l->served[i].kind == 0)
			return NULL;
		if (l->served[i].start_pc == start)
			return &l->served[i];
	}
	return NULL;
}

/* Remembers a goroutine that serves requests. */
static __always_inline void remember(const struct who *who)
{
	struct goroutine_key key = {.goroutine = who->goroutine, .tgid = who->tgid};
	__u64 *known = bpf_map_lookup_elem(&serving, &key);

	if (!known || *known != who->g)
		bpf_map_update_elem(&serving, &key, &who->g, BPF_ANY);
}

/* The goroutine that started this one, if it is one that serves requests and is
 * still alive. */
static __always_inline __u64 serving_parent(const struct layout *l, const struct who *who)
{
	struct goroutine_key key = {.goroutine = who->parent, .tgid = who->tgid};
	__u64 *g = bpf_map_lookup_elem(&serving, &key);
	struct goroutine_state s;

	if (!g || who->parent == 0)
		return 0;
	s = state_of(l, *g);
	return s.goid == who->parent && !is_dead(s.status) ? *g : 0;
}

#endif
