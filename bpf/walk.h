/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of a user stack: from one frame to its caller by the rule that the
 * object's unwind table has for the place, else by the frame pointer. Go's walk
 * (profiler/unwind/walk.go) does the same; profiler/unwind/FORMAT.md says what
 * tables and rules mean. This file is also compiled for user space, where tests
 * run it over recorded stacks: it calls nothing but bpf_map_lookup_elem() and
 * bpf_probe_read_user().
 *
 * All of a walk's state is in memory, nothing in registers: so the verifier
 * finds each step like the one before.
 */
#ifndef FLEETPROF_WALK_H
#define FLEETPROF_WALK_H

#include "events.h"
#include "regs.h"

/*
 * Maps. Go writes them through its own mapping of their memory.
 */

/* Unwind tables. The loader sets the number of blocks from the memory budget. */
struct block {
	__u32 words[BLOCK_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct block);
} blocks SEC(".maps");

/* By number: which tables belong to what code. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SEGMENTS);
	__type(key, __u32);
	__type(value, struct segment);
} segments SEC(".maps");

/* Lists of mappings, many in one block: a search never leaves its block. */
struct list {
	struct mapping mappings[LIST_LENGTH];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LISTS);
	__type(key, __u32);
	__type(value, struct list);
} lists SEC(".maps");

/* Tgid → where its mappings are. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES);
	__type(key, __u32);
	__type(value, struct process);
} processes SEC(".maps");

/* Goes up now and then: what is marked with an older one may be forgotten. */
volatile __u32 epoch = 1;

/*
 * The rules of a table, as profiler/unwind/rule.go writes them.
 */

enum rule_kind {
	RULE_NONE = 0,
	RULE_UNSUPPORTED = 1,
	RULE_END = 2,
	RULE_OFFSET = 3,
	RULE_DEREF = 4,
	RULE_PLT = 5,
	RULE_SIGNAL = 6,
	RULE_SWITCH = 7,
	RULE_GOROUTINE = 8,
	RULE_CALLBACK = 9,
	RULE_CALL_C = 10,
};

enum rule_base {
	BASE_SP = 0,
	BASE_FP = 1,
	BASE_BX = 2,
	BASE_OTHER = 32,
};

enum rule_place {
	PLACE_SAME = 0,
	PLACE_AT_CFA = 1,
	PLACE_AT_FP = 2,
	PLACE_LOST = 3,
	PLACE_IN_REGISTER = 32,
	PLACE_SIGNED = 128, /* a flag */
};

struct rule {
	__u8 kind, base, ra, fp, bx;
	__s8 bx_offset;
	__s16 add;
	__s32 cfa;
	__s16 ra_offset, fp_offset;
};

_Static_assert(sizeof(struct rule) == 16, "rules lie 16 bytes apart");

#define PAGE_BITS 8
#define PAGE_MASK ((1 << PAGE_BITS) - 1)
#define ROW_BITS 26
#define ROW_MASK ((1 << ROW_BITS) - 1)

/*
 * Where a walk stands.
 */

/* Stack memory is read ahead, since most frames are small: little at first, since
 * most stacks are short, and twice as much each time up to this. */
#define BUFFER_WORDS 512
#define FIRST_READ 512 /* bytes */

struct walk {
	__u64 ip, sp, fp;
	__u64 bx; /* the value, or the address it was saved at */
	__u64 hash; /* of the frames so far */
	__u64 callback; /* SP on the thread's own stack of the next frame of Go code that C
			 * called; 0 for the innermost one, which the thread's record knows */

	/* The mapping of the last frame, and its segment. */
	__u64 start, size;
	__u64 text; /* the address that the table's first page has here */
	__u32 length, index, rows, rules, state;

	/* The process's mappings, see struct process. */
	__u32 first, count;

	__u32 frames; /* written so far */
	__u8 exact;   /* ip is that of the next instruction, not a return address */
	__u8 knows_sp, knows_fp;
	__u8 bx_is; /* enum bx_is */
	__u8 may_hand_over; /* there is room to send the stack to user space */
	__u8 late;	    /* user space is to do this walk */
	__u8 missed;	    /* it would have been, had there been room */
	__u8 stop;

	__u64 anew;	/* see anew() */
	__u64 buffered; /* address of buffer[0] */
	__u64 buffered_bytes;
	__u64 read_ahead; /* bytes to read next */
	__u64 buffer[BUFFER_WORDS];
};

enum bx_is {
	BX_LOST = 0,
	BX_VALUE = 1,
	BX_SAVED = 2,
};

/* What a step returns. */
enum step {
	STEP_MORE = 0,
	STEP_DONE = 1, /* walk.stop says why, or walk.late */
};

static __always_inline enum step stopped(struct walk *w, enum stop why)
{
	w->stop = why;
	return STEP_DONE;
}

/* Returns x by way of memory. What the verifier knows of it ends here, and so does the
 * difference between the paths that led here: it goes on with one of them only. */
static __always_inline __u64 anew(struct walk *w, __u64 x)
{
	*(volatile __u64 *)&w->anew = x;
	return *(volatile __u64 *)&w->anew;
}

/* x if it is the smaller one. No branch, which would double the verifier's work
 * at each step of a search; below 1<<31. */
static __always_inline __u32 smaller(__u32 x, __u32 y)
{
	__s64 d = (__s64)x - y, mask = d >> 63;

	asm volatile("" : "+r"(mask)); /* or the compiler makes a branch of it */
	return y + (__u32)(d & mask);
}

/* take if condition is negative, else keep. */
static __always_inline __u32 if_negative(__s64 condition, __u32 take, __u32 keep)
{
	__s64 mask = condition >> 63;

	asm volatile("" : "+r"(mask)); /* or the compiler makes a branch of it */
	return keep ^ ((keep ^ take) & (__u32)mask);
}

/* Fills the buffer so that it holds the word at addr. */
static __always_inline bool refill(struct walk *w, __u64 addr)
{
	__u64 below = (addr - w->sp) & ~7ULL;
	__u64 bytes = w->read_ahead, start;

	if (bytes > sizeof(w->buffer))
		bytes = sizeof(w->buffer);
	start = below <= bytes / 2 ? addr - below : addr - 64;
	w->read_ahead = bytes * 2;
	if (bpf_probe_read_user(w->buffer, bytes, (void *)start)) {
		/* Up to the end of the page, then. */
		if ((start ^ addr) >> 12)
			start = addr;
		bytes = (4096 - (start & 4095)) & ~7ULL;
		if (bytes == 0 || bpf_probe_read_user(w->buffer, bytes, (void *)start)) {
			w->buffered_bytes = 0;
			return false;
		}
	}
	w->buffered = start;
	w->buffered_bytes = bytes;
	return addr - start < bytes;
}

/* Reads 8 bytes of the process's memory. */
static __always_inline bool load(struct walk *w, __u64 addr, __u64 *value)
{
	__u64 at = addr - w->buffered;

	if (at >= w->buffered_bytes || (at & 7)) {
		if (!refill(w, addr))
			return false;
		at = addr - w->buffered;
	}
	*value = w->buffer[(at >> 3) & (BUFFER_WORDS - 1)];
	return true;
}

/* Finds the mapping of an address among those of the process and remembers it. */
static __always_inline bool enter(struct walk *w, __u64 addr)
{
	__u32 block = w->first >> LIST_BITS;
	struct list *list = bpf_map_lookup_elem(&lists, &block);
	__u32 at = w->first & (LIST_LENGTH - 1), last = at + w->count - 1, next;
	struct segment *segment;
	struct mapping *m;

	if (!list || w->count == 0)
		return false;
#define HALVE(step)                                                                                \
	next = smaller(at + (step), last);                                                         \
	at = if_negative((__s64)(addr - list->mappings[next & (LIST_LENGTH - 1)].start), at, next);
	if (w->count > 64) {
		HALVE(2048) HALVE(1024) HALVE(512) HALVE(256) HALVE(128) HALVE(64)
	}
	HALVE(32) HALVE(16) HALVE(8) HALVE(4) HALVE(2) HALVE(1)
#undef HALVE
	m = &list->mappings[at & (LIST_LENGTH - 1)];
	if (addr - m->start >= m->limit - m->start)
		return false;
	segment = bpf_map_lookup_elem(&segments, &m->segment);
	if (!segment)
		return false;
	w->start = m->start;
	w->size = m->limit - m->start;
	w->text = m->start - m->offset + segment->file_start;
	w->state = segment->state;
	w->length = segment->length;
	w->index = segment->index;
	w->rows = segment->rows;
	w->rules = segment->rules;
	if (segment->used != epoch)
		segment->used = epoch;
	return true;
}

/* One word of the tables; 0 if there is no such block. */
static __always_inline __u32 word(__u32 number)
{
	__u32 key = number / BLOCK_WORDS;
	struct block *block = bpf_map_lookup_elem(&blocks, &key);

	return block ? block->words[number % BLOCK_WORDS] : 0;
}

/* The rule in force at an address of the mapping entered; NULL for none. */
static __always_inline const struct rule *find_rule(const struct walk *w, __u64 addr)
{
	__u64 code = addr - w->text;
	__u32 pc = code & PAGE_MASK, entry, first, last, at, next, key;
	struct block *block;

	if (code >= w->length)
		return NULL;
	entry = word(w->index + (__u32)(code >> PAGE_BITS));
	if (entry >> ROW_BITS == 0) /* a dense page: its quarters */
		entry = word(w->index + entry + (pc >> (PAGE_BITS - 2)));
	first = w->rows + (entry & ROW_MASK);
	key = first / BLOCK_WORDS;
	block = bpf_map_lookup_elem(&blocks, &key);
	if (!block)
		return NULL;
	at = first % BLOCK_WORDS;
	last = at + (entry >> ROW_BITS) - 1;
#define HALVE(step)                                                                                \
	next = smaller(at + (step), last);                                                         \
	at = if_negative((__s64)pc - (block->words[next % BLOCK_WORDS] & PAGE_MASK), at, next);
	if (entry >> (ROW_BITS + 3)) {
		HALVE(32) HALVE(16) HALVE(8)
	}
	HALVE(4) HALVE(2) HALVE(1)
#undef HALVE
	first = w->rules + (block->words[at % BLOCK_WORDS] >> PAGE_BITS) * (sizeof(struct rule) / 4);
	key = first / BLOCK_WORDS;
	block = bpf_map_lookup_elem(&blocks, &key);
	if (!block)
		return NULL;
	return (const struct rule *)&block->words[first % BLOCK_WORDS & ~3U];
}

/* Goes to the caller. A return address of 0 is put where nothing has called. */
static __always_inline enum step called(struct walk *w, __u64 ra)
{
	w->ip = ra;
	w->exact = false;
	return ra == 0 ? stopped(w, STOP_END) : STEP_MORE;
}

/* By the frame pointer: at fp lie the caller's frame pointer and the return
 * address, on amd64 as on arm64. */
static __always_inline enum step by_frame_pointer(struct walk *w)
{
	__u64 fp = stack_address(w->fp), next, ra;

	if (!w->knows_fp || fp == 0 || (fp & 7) || (w->knows_sp && fp < w->sp - FRAME_BELOW_SP))
		return stopped(w, STOP_FRAME_POINTER);
	if (!load(w, fp, &next) || !load(w, fp + 8, &ra))
		return stopped(w, STOP_FAULT);
	w->sp = fp + 16;
	w->knows_sp = !LINK_REGISTER;
	w->fp = next = stack_address(next);
	w->knows_fp = next == 0 || next > fp; /* else it is none: only rules help then */
	w->bx_is = BX_LOST;
	return called(w, code_address(ra));
}

/* Goes to the code that a signal interrupted: all its registers stand where the
 * kernel has put them. */
static __always_inline enum step from_signal(struct walk *w, struct registers *regs)
{
	struct signal_context *context = (struct signal_context *)w->buffer;

	if (!w->knows_sp)
		return stopped(w, STOP_REGISTER);
	w->buffered_bytes = 0; /* the buffer is needed for the context */
	if (bpf_probe_read_user(context, sizeof(*context), (void *)(w->sp + SIGNAL_CONTEXT)))
		return stopped(w, STOP_FAULT);
	COPY_REGISTERS(regs, context);
	w->ip = regs->ip;
	w->sp = regs->r[REGISTER_SP];
	w->fp = regs->r[REGISTER_FP];
	w->bx = regs->r[REGISTER_BX];
	w->exact = w->knows_sp = w->knows_fp = true;
	w->bx_is = BX_VALUE;
	return STEP_MORE;
}

/*
 * Go code runs on its goroutine's stack and on that of the thread, which belongs to
 * the thread's scheduling goroutine g0. C runs on the thread's. The records of Go's
 * runtime tell how to get from one to the other. A thread (m) and its g0 point to each
 * other: records that do not are not what they are taken for. These reads are rare,
 * and do without the buffer, which costs the verifier more.
 */

/* Offsets in the records of Go's runtime. */
#define GO_G_STACK 0 /* low, high */
#define GO_G_M 48
#define GO_G_SCHED_SP 56
#define GO_G_SCHED_PC 64
#define GO_M_G0 0
#define GO_M_CURG 184 /* before Go 1.25: 192 */

/* Where its code has things: the arguments of a call from SP, and the SP that
 * runtime.cgocallback saves from its SP. */
#define GO_ARGUMENTS (LINK_REGISTER ? 8 : 0)
#define GO_OUTER_SP (LINK_REGISTER ? 16 : 0)

/* More than what runtime.asmcgocall takes of the thread's stack, in bytes. */
#define GO_SWITCH_FRAME 96

/* Reads memory that is not the stack the walk is on. */
static __always_inline bool peek(void *to, __u32 bytes, __u64 from)
{
	return bpf_probe_read_user(to, bytes, (void *)from) == 0;
}

/* Goes to the goroutine g of the thread m, if that is what they are: they point to
 * each other. The last offset is that of g.sched.bp. */
static __always_inline bool resume_goroutine(struct walk *w, __u64 m, __u64 g, __u32 sched_fp)
{
	__u64 of, sched[2], fp;

	_Static_assert(GO_G_SCHED_PC == GO_G_SCHED_SP + 8, "they are read at once");
	if (!peek(&of, 8, g + GO_G_M) || of != m || !peek(sched, 16, g + GO_G_SCHED_SP) ||
	    !peek(&fp, 8, g + sched_fp))
		return false;
	w->sp = sched[0];
	w->fp = fp;
	w->knows_sp = w->knows_fp = true;
	w->bx_is = BX_LOST;
	w->ip = sched[1];
	return true;
}

/* Goes from the scheduler's stack of a thread to the goroutine that the thread
 * works for. */
static __always_inline enum step to_goroutine(struct walk *w, const struct registers *regs)
{
	__u64 g0 = regs->r[REGISTER_G], m, of, curg[2];

	if (w->exact)
		return stopped(w, STOP_UNSUPPORTED); /* it may not have changed the stack yet */
	if (!peek(&m, 8, g0 + GO_G_M) || !peek(&of, 8, m + GO_M_G0) ||
	    !peek(curg, 16, m + GO_M_CURG))
		return stopped(w, STOP_FAULT);
	if (of != g0)
		return stopped(w, STOP_UNSUPPORTED);
	/* Go 1.25 dropped a field. */
	if (resume_goroutine(w, m, curg[0], 96) || resume_goroutine(w, m, curg[1], 104))
		return called(w, w->ip);
	return stopped(w, STOP_UNSUPPORTED);
}

/* Finds the g0 of the thread that runs goroutine g. */
static __always_inline bool thread_of(__u64 g, __u64 *g0)
{
	__u64 m, of;

	return peek(&m, 8, g + GO_G_M) && peek(g0, 8, m + GO_M_G0) && peek(&of, 8, *g0 + GO_G_M) &&
	       of == m;
}

/* From a callback's frame on the goroutine's stack to its frame on the thread's. The
 * latter's SP is in g0.sched.sp as long as the callback runs; what was there before,
 * for the callback further out, is in that frame (runtime.cgocallback). That the two
 * belong together shows in the arguments, which are copied from one to the other: the
 * second is an address in the frame of the C function that called. */
static __always_inline bool to_thread_stack(struct walk *w, const struct registers *regs,
					    const struct rule *rule)
{
	__u64 at = w->callback, g0, outer, here[2], there[2];

	if (!w->knows_sp)
		return false;
	if (at == 0 && (!thread_of(regs->r[REGISTER_G], &g0) || !peek(&at, 8, g0 + GO_G_SCHED_SP)))
		return false;
	if (!peek(&outer, 8, at + GO_OUTER_SP) ||
	    !peek(here, sizeof(here), w->sp + GO_ARGUMENTS) ||
	    !peek(there, sizeof(there), at + (__s64)rule->cfa + GO_ARGUMENTS) ||
	    here[0] != there[0] || here[1] != there[1])
		return false;
	w->callback = outer;
	w->sp = at;
	return true;
}

/* From the frame on the thread's stack of Go code that calls C to its frame on the
 * goroutine's. runtime.asmcgocall has put on the thread's stack the goroutine, and how
 * far its SP is from the upper end of the stack, which may have moved since. Without a
 * goroutine it did not change stacks, and has put SP there. */
static __always_inline bool to_goroutine_stack(struct walk *w, struct registers *regs,
					       const struct rule *rule)
{
	__u64 left[2], depth, g, g0, stack[2];

	if (w->exact || !w->knows_sp || !peek(left, sizeof(left), w->sp + (__s64)rule->add))
		return false;
	g = left[LINK_REGISTER ? 0 : 1];
	depth = left[LINK_REGISTER ? 1 : 0];
	if (g == 0) {
		if (depth - w->sp > GO_SWITCH_FRAME)
			return false;
		w->sp = depth;
		return true;
	}
	if (!peek(stack, sizeof(stack), g + GO_G_STACK) || !thread_of(g, &g0) ||
	    depth > stack[1] - stack[0])
		return false;
	regs->r[REGISTER_G] = g; /* as it will be when C has returned */
	w->sp = stack[1] - depth;
	return true;
}

/* The value of the register a rule counts from. */
static __always_inline bool base_value(struct walk *w, const struct registers *regs,
				       const struct rule *rule, __u64 *value)
{
	switch (rule->base) {
	case BASE_SP:
		*value = w->sp;
		return w->knows_sp;
	case BASE_FP:
		*value = w->fp;
		return w->knows_fp;
	case BASE_BX:
		*value = w->bx;
		return w->bx_is == BX_VALUE || (w->bx_is == BX_SAVED && load(w, w->bx, value));
	}
	*value = regs->r[(rule->base - BASE_OTHER) & (REGISTERS - 1)];
	return w->exact;
}

/* Where the caller's rbx is, after a frame of this rule. */
static __always_inline void restore_bx(struct walk *w, const struct rule *rule, __u64 cfa)
{
	if (rule->bx == PLACE_SAME)
		return;
	w->bx_is = rule->bx == PLACE_LOST || (rule->bx == PLACE_AT_FP && !w->knows_fp) ? BX_LOST :
											 BX_SAVED;
	w->bx = (rule->bx == PLACE_AT_FP ? w->fp : cfa) + 8 * (__s64)rule->bx_offset;
}

static __always_inline void restore_fp(struct walk *w, const struct rule *rule, __u64 cfa)
{
	__u64 from = cfa;

	if (rule->fp == PLACE_SAME)
		return;
	if (rule->fp == PLACE_AT_FP)
		from = w->fp;
	w->knows_fp = rule->fp != PLACE_LOST && (rule->fp != PLACE_AT_FP || w->knows_fp) &&
		      load(w, from + 8 * (__s64)rule->fp_offset, &w->fp);
}

static __always_inline enum step by_rule(struct walk *w, const struct registers *regs,
					 const struct rule *rule)
{
	__u8 place = rule->ra & ~PLACE_SIGNED;
	__u64 cfa, ra;

	if (!base_value(w, regs, rule, &cfa))
		return stopped(w, STOP_REGISTER);
	cfa += (__s64)rule->cfa;
	if (rule->kind == RULE_DEREF) {
		if (!load(w, cfa, &cfa))
			return stopped(w, STOP_FAULT);
		cfa += (__s64)rule->add;
	} else if (rule->kind == RULE_PLT && (w->ip & 15) >= (__u64)rule->add) {
		cfa += 8;
	}
	if (rule->kind != RULE_SWITCH && w->knows_sp &&
	    (cfa < w->sp || (cfa == w->sp && place == PLACE_AT_CFA)))
		return stopped(w, STOP_STUCK);
	if (place == PLACE_AT_CFA) {
		if (!load(w, cfa + 8 * (__s64)rule->ra_offset, &ra))
			return stopped(w, STOP_FAULT);
	} else if (w->exact && place >= PLACE_IN_REGISTER) {
		ra = regs->r[place % REGISTERS];
#ifdef REGISTER_RA
	} else if (w->exact && place == PLACE_SAME) {
		ra = regs->r[REGISTER_RA];
#endif
	} else {
		return stopped(w, STOP_REGISTER);
	}
	if (LINK_REGISTER && (rule->ra & PLACE_SIGNED))
		ra = code_address(ra);
	if (ra == 0)
		return stopped(w, STOP_CODE); /* outermost frames have a rule that says so */
	restore_bx(w, rule, cfa);
	restore_fp(w, rule, cfa);
	w->sp = cfa;
	w->knows_sp = true;
	return called(w, ra);
}

/* What is needed here is not there yet. User space has it, or can get it. */
static __always_inline bool hand_over(struct walk *w)
{
	w->late = w->may_hand_over;
	w->missed |= !w->may_hand_over;
	return w->late;
}

/* Finds the rule for the frame; NULL for none. */
static __always_inline enum step look_up(struct walk *w, const struct rule **rule)
{
	/* The call counts, not what follows it. */
	__u64 addr = anew(w, w->exact ? w->ip : w->ip - 1);

	*rule = NULL;
	if (addr - w->start >= w->size && !enter(w, addr)) {
		w->size = 0;
		return hand_over(w) ? STEP_DONE : STEP_MORE;
	}
	if (w->state == SEGMENT_READY)
		*rule = find_rule(w, addr);
	return w->state == SEGMENT_ABSENT && hand_over(w) ? STEP_DONE : STEP_MORE;
}

/* From one frame to its caller. */
static __always_inline enum step walk_step(struct walk *w, struct registers *regs)
{
	const struct rule *rule;

	if (look_up(w, &rule))
		return STEP_DONE;
	if (!rule || rule->kind == RULE_NONE)
		goto by_frame_pointer;
	if (rule->kind == RULE_END)
		return stopped(w, STOP_END);
	if (rule->kind == RULE_SIGNAL)
		return from_signal(w, regs);
	if (rule->kind == RULE_GOROUTINE)
		return to_goroutine(w, regs);
	if (rule->kind == RULE_UNSUPPORTED || rule->kind > RULE_CALL_C)
		return stopped(w, STOP_UNSUPPORTED);
	if (rule->kind == RULE_CALLBACK && !to_thread_stack(w, regs, rule))
		return stopped(w, STOP_UNSUPPORTED);
	if (rule->kind == RULE_CALL_C && !to_goroutine_stack(w, regs, rule)) {
		if (LINK_REGISTER)
			return stopped(w, STOP_UNSUPPORTED); /* FP is not the goroutine's */
		w->knows_sp = false; /* on which of the stacks this is nobody knows */
	}
	if (rule->base != BASE_SP || w->knows_sp)
		return by_rule(w, regs, rule);
by_frame_pointer:
	return by_frame_pointer(w);
}

/* Sets a walk to its innermost frame. */
static __always_inline void walk_from(struct walk *w, const struct registers *regs)
{
	w->ip = regs->ip;
	w->sp = regs->r[REGISTER_SP];
	w->fp = regs->r[REGISTER_FP];
	w->bx = regs->r[REGISTER_BX];
	w->bx_is = BX_VALUE;
	w->exact = w->knows_sp = w->knows_fp = true;
	w->size = 0;
	w->frames = 0;
	w->callback = 0;
	w->late = w->missed = false;
	w->stop = STOP_DEPTH;
	w->buffered_bytes = 0;
	w->read_ahead = FIRST_READ;
}

#endif
