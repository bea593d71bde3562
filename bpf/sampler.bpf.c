//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sampler: run by a perf event on every CPU at every tick that does not hit
 * the idle task. It writes one record a tick into one ring, and before that the
 * user stack itself if user space is to walk it.
 *
 * Compiled twice: with bpf_loop() for Linux 5.17 and later, and with TAIL_CALLS
 * for the kernels before, where the walk is cut in runs of one program that
 * calls itself.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "events.h"
#include "kernel.h"
#include "select.h"
#include "executor.h"
#include "request.h"
#include "labels.h"
#include "context.h"
#include "regs.h"
#include "task.h"
#include "walk.h"

/* Named so that bpf2go emits Go types and constants for them. */
const enum limit emit_limit __attribute__((unused));
const enum stop emit_stop __attribute__((unused));
const enum tick_flag emit_tick_flag __attribute__((unused));
const enum record_kind emit_record_kind __attribute__((unused));
const enum counter emit_counter __attribute__((unused));
const enum executor emit_executor __attribute__((unused));
const enum request_kind emit_request_kind __attribute__((unused));
const struct tick emit_tick __attribute__((unused));
const struct request emit_request __attribute__((unused));
const struct context emit_context __attribute__((unused));
const struct context_attributes emit_context_attributes __attribute__((unused));
const struct label emit_label __attribute__((unused));
const struct labels emit_labels __attribute__((unused));
const struct layout emit_layout __attribute__((unused));
const struct program emit_program __attribute__((unused));
const struct registers emit_registers __attribute__((unused));
const struct stack_piece emit_stack_piece __attribute__((unused));
const enum segment_state emit_segment_state __attribute__((unused));
const struct segment emit_segment __attribute__((unused));
const struct mapping emit_mapping __attribute__((unused));
const struct process emit_process __attribute__((unused));
const struct weight emit_weight __attribute__((unused));
const struct pace emit_pace __attribute__((unused));

/*
 * Load-time constants, set by bpf.Load before the verifier sees the program.
 */

/* The cgroup v1 controller that tells containers apart: its index in
 * css_set.subsys on this kernel. Negative: the v2 hierarchy. */
const volatile __s32 cgroup_subsys = -1;

/* Size of the ring in bytes. */
const volatile __u64 ring_bytes = 1 << 20;

/* Random, so that no program can make stacks of equal hashes. */
const volatile __u64 hash_seed = 0;

/*
 * Maps. Those of the walk are in walk.h.
 */

/* Records to user space. The loader sets the size from the memory budget; it
 * depends on neither the number of CPUs nor the frequency. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

/* enum counter → events since load, one value per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The stacks that user space has: low bits of the hash → hash and epoch. Of two
 * stacks with one place, the later one takes it. */
#define SENT 16384

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SENT);
	__type(key, __u32);
	__type(value, __u64);
} sent SEC(".maps");

/* Frames of both kinds, and room to the next power of two: an index into them
 * is bounded by a mask. */
#define FRAMES 2048

_Static_assert(MAX_KERNEL_FRAMES + MAX_USER_FRAMES <= FRAMES, "all frames have room");
_Static_assert(MAX_KERNEL_FRAMES + MAX_LINKS * LINK_WORDS <= FRAMES, "all links have room");

/* The record in the making: too large for the 512-byte BPF stack. A perf
 * event program is never entered twice on one CPU (bpf_prog_active). */
struct scratch {
	struct tick tick;
	__u64 frames[FRAMES + LINK_WORDS];
	struct registers registers;
	struct walk walk;
	__u64 queued;		     /* unread bytes in the ring as the tick begins */
	__u64 sent_from, sent_bytes; /* the pieces of this tick */
	struct user_abi saved;
	struct who who;
	struct labels labels;
	struct context_attributes attributes;
};

/* PCPU_MIN_UNIT_SIZE of the kernel. */
_Static_assert(sizeof(struct scratch) <= 32768, "a value of a per-CPU map has a limit");

/* A piece of a stack, as it is written into the ring. */
struct full_piece {
	struct stack_piece head;
	__u8 memory[STACK_PIECE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/*
 * Steps. Each failure bumps exactly one counter and is visible in the record.
 */

static __always_inline void add(__u32 which, __u64 n)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += n;
}

static __always_inline void count(__u32 which)
{
	add(which, 1);
}

/* Counts a tick that was to be a sample and will not be one, and what it stood for. */
static __always_inline void lose(__u32 which, __u32 weight, __u32 period_ns)
{
	count(which);
	add(COUNTER_LOST_WEIGHT, weight);
	add(COUNTER_LOST_NANOSECONDS, (__u64)weight * period_ns);
}

/* The kernfs id of the task's cgroup, 0 if it cannot be read. Equal to the
 * inode of the cgroup's directory on 64-bit kernels since 5.5. */
static __always_inline __u64 cgroup_id(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = NULL;
	__u64 id;

	if (cgroup_subsys < 0) {
		id = BPF_CORE_READ(set, dfl_cgrp, kn, id);
	} else {
		bpf_probe_read_kernel(&css, sizeof(css),
				      (void *)set + bpf_core_field_offset(struct css_set, subsys) +
					      (__u64)cgroup_subsys * sizeof(css));
		id = BPF_CORE_READ(css, cgroup, kn, id);
	}
	if (id == 0)
		count(COUNTER_CGROUP_ERROR);
	return id;
}

/* The kernel part of the stack. */
static __always_inline void kernel_stack(struct user_abi *ctx, struct scratch *s)
{
	long bytes = bpf_get_stack(ctx, s->frames, MAX_KERNEL_FRAMES * sizeof(__u64), 0);

	if (bytes <= 0) {
		count(COUNTER_KERNEL_STACK_ERROR);
		return;
	}
	s->tick.kernel_frames = (__u64)bytes / sizeof(__u64);
	if (s->tick.kernel_frames >= MAX_KERNEL_FRAMES)
		s->tick.flags |= TICK_KERNEL_CUT;
}

/* Reads the registers the task had when it left user mode, and returns the mode
 * they tell. */
static __always_inline __u64 saved_registers(struct task_struct *task, struct scratch *s)
{
	if (bpf_probe_read_kernel(&s->saved, sizeof(s->saved), user_registers(task)))
		s->saved = (struct user_abi){};
	COPY_REGISTERS(&s->registers, &s->saved);
	return mode(&s->saved);
}

/*
 * The walk.
 */

static __always_inline __u64 mix(__u64 hash, __u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* A stack takes at most this part of the room in the ring, so that many CPUs can
 * send one at once, and none is sent into the second half of the ring. Where main
 * threads' stacks end is known, so there it is all stack that is sent; what lies
 * behind another stack is nobody's business. */
#define MAIN_COPY_PART 16
#define COPY_PART 128
#define MAX_COPY (64 * STACK_PIECE)

/* Readies the walk of the current task. */
static __always_inline void prepare_walk(struct scratch *s)
{
	struct walk *w = &s->walk;
	struct process *p = bpf_map_lookup_elem(&processes, &s->tick.tgid);

	walk_from(w, &s->registers);
	w->hash = mix(hash_seed, s->tick.tgid);
	w->may_hand_over = s->queued < ring_bytes / 2;
	w->first = w->count = 0;
	if (p && p->mm == s->tick.mm && p->exec_id == s->tick.exec_id) {
		w->first = p->first;
		w->count = p->count;
	}
}

/* Records the frame the walk is at and goes on to its caller. A frame that a
 * signal interrupted is recorded with its address plus one, see FORMAT.md. */
static __always_inline enum step next_frame(struct scratch *s)
{
	struct walk *w = &s->walk;
	__u64 addr = w->ip + (w->exact && w->frames > 0);

	s->frames[(s->tick.kernel_frames + w->frames) & (FRAMES - 1)] = addr;
	w->hash = mix(w->hash, addr);
	w->frames++;
	return walk_step(w, &s->registers);
}

/*
 * Sending.
 */

/* User space polls; it is woken only when the ring fills faster than it polls,
 * and for a late tick, so that there is only one of a kind. */
static __always_inline __u64 wakeup(const struct scratch *s)
{
	if (s->tick.flags & TICK_LATE)
		return BPF_RB_FORCE_WAKEUP;
	return s->queued > ring_bytes / 4 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Sends the next piece of the stack. Returns false if there is none, or no room. */
static __always_inline bool send_piece(struct scratch *s)
{
	__u64 address = s->sent_from + s->sent_bytes;
	struct full_piece *p = bpf_ringbuf_reserve(&ring, sizeof(*p), 0);

	if (!p)
		return false;
	p->head = (struct stack_piece){
		.kind = RECORD_STACK,
		.bytes = STACK_PIECE,
		.cpu = s->tick.cpu,
		.time_ns = s->tick.time_ns,
		.address = address,
	};
	if (!bpf_probe_read_user(p->memory, sizeof(p->memory), (void *)address)) {
		bpf_ringbuf_submit(p, BPF_RB_NO_WAKEUP);
		s->sent_bytes += STACK_PIECE;
		return true;
	}
	bpf_ringbuf_discard(p, BPF_RB_NO_WAKEUP);
	if (address >= s->registers.r[REGISTER_SP])
		return false;
	s->sent_from += STACK_PIECE; /* that was below the stack */
	return true;
}

/* Sends registers and stack memory for user space to walk. */
static __always_inline bool send_stack(struct scratch *s)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 most = ring_bytes - s->queued;
	__u64 sp = s->registers.r[REGISTER_SP];
	__u64 end = BPF_CORE_READ(task, mm, start_stack);
	__u64 page = (sp - FRAME_BELOW_SP) & ~(__u64)(STACK_PIECE - 1);

	s->registers.kind = RECORD_REGISTERS;
	s->registers.cpu = s->tick.cpu;
	s->registers.time_ns = s->tick.time_ns;
	if (bpf_ringbuf_output(&ring, &s->registers, sizeof(s->registers), BPF_RB_NO_WAKEUP))
		return false;
	s->sent_from = page;
	s->sent_bytes = 0;
	if (end - page <= MAX_COPY) {
		most /= MAIN_COPY_PART;
		if (most > end - page)
			most = end - page;
	} else {
		most /= COPY_PART;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_COPY / STACK_PIECE; i++) {
		if ((__u64)i * STACK_PIECE > most || !send_piece(s))
			break;
	}
	return true;
}

/* Puts what frame pointers point to outside of the pieces in the place of the
 * user frames. */
static __always_inline void add_links(struct scratch *s)
{
	struct walk *w = &s->walk;

	s->tick.user_frames = 0;
	w->fp = s->registers.r[REGISTER_FP];
#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_USER_FRAMES && s->tick.user_frames < MAX_LINKS * LINK_WORDS; i++) {
		__u64 *link = &s->frames[(s->tick.kernel_frames + s->tick.user_frames) & (FRAMES - 1)];
		__u64 fp = stack_address(w->fp);

		if (fp == 0 || (fp & 7) || bpf_probe_read_user(link + 1, 16, (void *)fp))
			break;
		link[0] = fp;
		w->fp = link[1];
		s->tick.user_frames += fp - s->sent_from < s->sent_bytes ? 0 : LINK_WORDS;
	}
}

/* Ends the walk: what it came to is written into the record. */
static __always_inline void finish_walk(struct scratch *s)
{
	struct walk *w = &s->walk;

	s->tick.stop = w->stop;
	s->tick.user_frames = w->frames;
	s->tick.stack_hash = w->hash;
	if (w->late && send_stack(s)) {
		add_links(s);
		s->tick.flags |= TICK_LATE;
		count(COUNTER_LATE);
	} else if (w->late || w->missed) {
		s->tick.stop = STOP_LATE;
		count(COUNTER_LATE_REFUSED);
	}
}

/* Hands the record over; the frames only if user space does not have them. */
static __always_inline void send(struct scratch *s)
{
	__u64 frames = (__u64)s->tick.kernel_frames + s->tick.user_frames;
	__u64 bytes = sizeof(s->tick) + frames * sizeof(__u64);
	__u64 mark, *place;
	__u32 key;

#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_KERNEL_FRAMES && i < s->tick.kernel_frames; i++)
		s->tick.stack_hash = mix(s->tick.stack_hash, s->frames[i]);
	s->tick.stack_hash |= 1; /* 0 is none */
	key = s->tick.stack_hash >> 32 & (SENT - 1);
	mark = s->tick.stack_hash + ((__u64)epoch << 1);
	place = bpf_map_lookup_elem(&sent, &key);
	if (s->tick.flags & TICK_LATE) {
		s->tick.stack_hash = 0;
		place = NULL;
	}
	if (place && *place == mark) {
		s->tick.flags |= TICK_KNOWN;
		bytes = sizeof(s->tick);
		count(COUNTER_KNOWN);
	}
	if (bytes > sizeof(s->tick) + sizeof(s->frames))
		bytes = sizeof(s->tick) + sizeof(s->frames);
	if (bpf_ringbuf_output(&ring, s, bytes, wakeup(s)))
		lose(COUNTER_LOST_RING_FULL, s->tick.weight, s->tick.period_ns);
	else if (place)
		*place = mark;
}

/* The one value of the scratch map. */
static __always_inline struct scratch *my_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

#ifdef TAIL_CALLS

/* A chain of tail calls has at most 33 links before Linux 5.16, of which 32 are
 * sure (MAX_TAIL_CALL_CNT): 31 for the walk and one to end it. */
#define FRAMES_PER_CALL 30
#define CALLS 31

enum call {
	CALL_WALK = 0,
	CALL_END = 1,
};

int walk_on(struct user_abi *ctx);
int end_walk(struct user_abi *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} calls SEC(".maps") = {
	.values = { [CALL_WALK] = (void *)&walk_on, [CALL_END] = (void *)&end_walk },
};

SEC("perf_event")
int walk_on(struct user_abi *ctx)
{
	struct scratch *s = my_scratch();
	enum step step = STEP_MORE;

	if (!s)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < FRAMES_PER_CALL; i++) {
		step = next_frame(s);
		if (step != STEP_MORE)
			break;
	}
	if (step == STEP_MORE && s->walk.frames < FRAMES_PER_CALL * CALLS)
		bpf_tail_call(ctx, &calls, CALL_WALK);
	bpf_tail_call(ctx, &calls, CALL_END);
	lose(COUNTER_LOST_CALL, s->tick.weight, s->tick.period_ns);
	return 0;
}

SEC("perf_event")
int end_walk(struct user_abi *ctx)
{
	struct scratch *s = my_scratch();

	if (!s)
		return 0;
	finish_walk(s);
	send(s);
	return 0;
}

/* Does not return; if it does, the record says that the walk has not begun. */
static __always_inline void walk(struct user_abi *ctx, struct scratch *s)
{
	bpf_tail_call(ctx, &calls, CALL_WALK);
	s->tick.stop = STOP_LATE;
}

#else

static long loop_step(__u32 i, void *unused)
{
	struct scratch *s = my_scratch();

	return !s || next_frame(s) != STEP_MORE;
}

static __always_inline void walk(struct user_abi *ctx, struct scratch *s)
{
	bpf_loop(MAX_USER_FRAMES, loop_step, NULL, 0);
	finish_walk(s);
}

#endif

/* Notes who executes. */
static __always_inline void note_executor(struct scratch *s)
{
	struct layout *l = find_executor(s->tick.tgid, s->tick.mm, s->tick.exec_id, &s->who);

	if (l)
#if defined(__TARGET_ARCH_x86)
		find_goroutine(l, thread_pointer((struct task_struct *)bpf_get_current_task()), &s->who);
#else
		find_goroutine(l, s->registers.r[REGISTER_G], &s->who);
#endif
	s->tick.executor = s->who.executor;
	s->tick.goroutine = s->who.goroutine;
	s->tick.parent = s->who.parent;
}

/* Sends the request that the goroutine serves, or else the one that started it. */
static __always_inline void send_request(struct scratch *s)
{
	struct who *who = &s->who;
	__u32 number = who->layout;
	struct layout *l = bpf_map_lookup_elem(&layouts, &number);
	__u64 g = who->g, m = who->m, sp = s->registers.r[REGISTER_SP], goroutine = who->goroutine;
	struct request *r;
	struct served *way;

	if (who->executor != EXECUTOR_GOROUTINE || !l)
		return;
	way = served_by(l, g, who->bias);
	if (way) {
		remember(who);
	} else {
		g = serving_parent(l, who);
		goroutine = who->parent;
		m = sp = 0;
		if (g == 0)
			return;
		way = served_by(l, g, who->bias);
		if (!way)
			return;
	}
	r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);
	if (!r)
		return; /* the tick says nothing of a request */
	r->kind = RECORD_REQUEST;
	r->cpu = s->tick.cpu;
	r->time_ns = s->tick.time_ns;
	r->goroutine = goroutine;
	r->method_length = r->path_length = r->route_length = 0;
	if (read_request(l, way, g, g != who->g, m, sp, r))
		bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	else
		bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
}

/* Sends the labels that the program has given the goroutine. Most have none: then
 * one word is read. */
static __always_inline void send_labels(struct scratch *s)
{
	__u32 number = s->who.layout;
	struct layout *l = bpf_map_lookup_elem(&layouts, &number);
	struct labels *to = &s->labels;
	__u64 set, bytes;

	if (!l)
		return;
	set = field(s->who.g, l->labels);
	if (set == 0)
		return;
	to->kind = RECORD_LABELS;
	to->cpu = s->tick.cpu;
	to->time_ns = s->tick.time_ns;
	if (!read_labels(l, set, to))
		count(COUNTER_LABELS_CUT);
	bytes = offsetof(struct labels, label) + to->count * sizeof(struct label);
	if (bytes > sizeof(*to) || to->count == 0)
		return;
	if (bpf_ringbuf_output(&ring, to, bytes, BPF_RB_NO_WAKEUP))
		count(COUNTER_LABELS_CUT);
}

/* Sends the OpenTelemetry context of the thread. */
static __always_inline void send_context(struct scratch *s)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct context *c = bpf_map_lookup_elem(&contexts, &s->tick.tgid);
	struct context_attributes *to = &s->attributes;
	__u32 bytes;

	if (!c || c->mm != s->tick.mm || c->exec_id != s->tick.exec_id)
		return;
	bytes = read_context(task, c, to->data);
	if (bytes == 0)
		return;
	to->named = user_word(c->named);
	if (to->named == 0) { /* they are being named anew */
		count(COUNTER_LABELS_CUT);
		return;
	}
	to->kind = RECORD_CONTEXT;
	to->bytes = bytes;
	to->cpu = s->tick.cpu;
	to->time_ns = s->tick.time_ns;
	if (bytes > CONTEXT_BYTES ||
	    bpf_ringbuf_output(&ring, to, offsetof(struct context_attributes, data) + bytes, BPF_RB_NO_WAKEUP))
		count(COUNTER_LABELS_CUT);
}

/* Sends what the program publishes about what executes. */
static __always_inline void send_published(struct scratch *s)
{
	if (s->who.executor == EXECUTOR_GOROUTINE)
		send_labels(s);
	else if (s->who.executor == EXECUTOR_THREAD)
		send_context(s);
}

/* The user part of the stack of a task that has one. */
static __always_inline void user_stack(struct user_abi *ctx, struct scratch *s, __u64 mode)
{
	if (s->registers.ip == 0) {
		/* A kernel worker that runs as a thread of a process (io_uring,
		 * vhost) never was in user mode: it has no registers. */
		count(COUNTER_KERNEL_WORKER);
	} else if (is_compat(mode)) {
		s->frames[s->tick.kernel_frames & (FRAMES - 1)] = s->registers.ip;
		s->tick.user_frames = 1;
		s->tick.stop = STOP_COMPAT;
		s->tick.stack_hash = mix(hash_seed, s->registers.ip);
	} else {
		note_executor(s);
		send_request(s);
		send_published(s);
		prepare_walk(s);
		walk(ctx, s);
	}
}

SEC("perf_event")
int sample(struct user_abi *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct scratch *s;
	__u32 weight, cpu, period_ns;
	__u64 mode_now, now;

	if (pid_tgid == 0)
		return 0; /* idle: hardware counters know no exclude_idle */
	weight = weight_of(task, pid_tgid >> 32);
	if (!chosen(weight)) {
		count(weight ? COUNTER_PASSED_OVER : COUNTER_EXCLUDED);
		return 0;
	}
	count(COUNTER_TICKS);
	mode_now = mode(ctx);
	now = bpf_ktime_get_ns();
	cpu = bpf_get_smp_processor_id();
	period_ns = period_at(cpu, now);
	s = my_scratch();
	if (!s) {
		lose(COUNTER_LOST_SCRATCH, weight, period_ns);
		return 0;
	}
	s->tick = (struct tick){
		.kind = RECORD_TICK,
		.stop = STOP_NONE,
		.time_ns = now,
		.cgroup_id = cgroup_id(task),
		.stack_hash = hash_seed,
		.mm = (__u64)BPF_CORE_READ(task, mm),
		.exec_id = BPF_CORE_READ(task, self_exec_id),
		.tgid = pid_tgid >> 32,
		.tid = (__u32)pid_tgid,
		.cpu = cpu,
		.weight = weight,
		.period_ns = period_ns,
	};
	bpf_get_current_comm(s->tick.comm, sizeof(s->tick.comm));
	s->queued = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	if (is_user(mode_now)) {
		COPY_REGISTERS(&s->registers, ctx);
		user_stack(ctx, s, mode_now);
		goto out;
	}
	kernel_stack(ctx, s);
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		s->tick.flags |= TICK_KERNEL_THREAD;
	else if (s->tick.mm == 0)
		s->tick.stop = STOP_EXITING;
	else if (BPF_CORE_READ(task, mm, end_code) == 0)
		s->tick.stop = STOP_NONE; /* in execve(2): load_elf_binary() sets it last */
	else
		user_stack(ctx, s, saved_registers(task, s));
out:
	send(s);
	return 0;
}

/* bpf_get_stack() and bpf_probe_read_*() are for GPL-compatible programs. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
