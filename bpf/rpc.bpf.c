//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What threads read from stream sockets and write to them, as far as it tells of
 * requests: the beginnings of requests and responses, the end of a connection,
 * the end of a turn of an event loop. What they mean is decided in user space.
 *
 * One tracepoint for each system call, so that others pay next to nothing. A call
 * whose first bytes do not look like a request or a response costs two reads
 * of memory; only then is its file looked at.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "events.h"
#include "kernel.h"
#include "executor.h"

/* Named so that bpf2go emits Go types and constants for them. */
const enum activity_kind emit_activity_kind __attribute__((unused));
const enum activity_flag emit_activity_flag __attribute__((unused));
const enum capture emit_capture __attribute__((unused));
const struct activity emit_activity __attribute__((unused));

/* Load-time constants, set by bpf.LoadRPC before the verifier sees the programs. */

/* Bytes of a kernel stack, for kernels before 5.15 that lack bpf_task_pt_regs(). */
const volatile __u32 kernel_stack_bytes = 16384;

/* The agent's own process, which is not looked at. */
const volatile __u32 own_tgid = 0;

/* Activities that found no room in the ring. */
__u64 lost = 0;

/* How many sockets user space watches. With none, calls that look like nothing
 * are done at once. */
__u64 watching = 0;

/* To user space. The loader sets the size from the memory budget. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} activities SEC(".maps");

/* Inode number of a socket → 1. User space writes it: everything on these is
 * sent. Of more than this many the least recently used are forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u32);
} watched SEC(".maps");

/* Threads whose turn has brought an activity and has not ended: tid → 1. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u32);
} turns SEC(".maps");

/* The record in the making. A program of a tracepoint is never entered twice on
 * one CPU (bpf_prog_active). */
struct record {
	struct activity head;
	__u8 data[CAPTURE_WATCHED];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

/* The contexts of syscalls:sys_enter_* and sys_exit_*, from their format files
 * in tracefs. Fixed layout. */
struct enter_context {
	__u64 common;
	__u64 number;
	__u64 args[6];
};

struct exit_context {
	__u64 common;
	__u64 number;
	__s64 result;
};

/* struct iovec, and struct user_msghdr as far as its vector: user ABI. */
struct vector {
	__u64 base;
	__u64 length;
};

struct message {
	__u64 name, name_length;
	__u64 vectors, count;
};

/* The arguments of a system call that has ended. */
struct call {
	__u64 fd;
	__u64 buffer;
	__u64 length;
};

/* How much of a call is of interest. */
enum interest {
	INTEREST_NONE,
	INTEREST_REQUEST,
	INTEREST_RESPONSE,
};

/* Reads the arguments from the registers the task had when it left user mode. */
static __always_inline bool read_call(struct task_struct *task, struct call *call)
{
	void *saved;

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		saved = (void *)bpf_task_pt_regs(
			(struct task_struct *)bpf_get_current_task_btf());
	else
		saved = BPF_CORE_READ(task, stack) + kernel_stack_bytes -
			bpf_core_type_size(struct pt_regs);
#if defined(__TARGET_ARCH_x86)
	struct {
		__u64 dx, si, di;
	} args;

	if (bpf_probe_read_kernel(&args, sizeof(args), saved + offsetof(struct user_abi, dx)))
		return false;
	*call = (struct call){.fd = args.di, .buffer = args.si, .length = args.dx};
#else
	/* The result has taken the place of the first argument. */
	__u64 args[2];
	__u64 fd = BPF_CORE_READ((struct pt_regs *)saved, orig_x0);

	if (bpf_probe_read_kernel(&args, sizeof(args), saved + 8))
		return false;
	*call = (struct call){.fd = fd, .buffer = args[0], .length = args[1]};
#endif
	return true;
}

/* Replaces a vector of buffers by the first buffer in it. */
static __always_inline bool first_buffer(struct call *call)
{
	struct vector v;

	if (bpf_probe_read_user(&v, sizeof(v), (void *)call->buffer))
		return false;
	call->buffer = v.base;
	call->length = v.length;
	return true;
}

static __always_inline bool first_of_message(struct call *call)
{
	struct message m;

	if (bpf_probe_read_user(&m, sizeof(m), (void *)call->buffer))
		return false;
	call->buffer = m.vectors;
	return first_buffer(call);
}

#define TEXT(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

/* Tells from the first bytes, as few as there may be, whether a call may be the
 * beginning of a request or of a response. User space looks closer. */
static __always_inline enum interest look(const __u8 *b, __u64 bytes)
{
	if (bytes == 1) /* Go's net/http reads one byte ahead */
		return b[0] == 'G' || b[0] == 'P' || b[0] == 'H' || b[0] == 'D' || b[0] == 'O' ||
				       b[0] == 'C' || b[0] == 'T' ?
			       INTEREST_REQUEST :
			       INTEREST_NONE;
	switch (TEXT(b[0], b[1], b[2], b[3])) {
	case TEXT('H', 'T', 'T', 'P'):
		return INTEREST_RESPONSE;
	case TEXT('G', 'E', 'T', ' '):
	case TEXT('P', 'O', 'S', 'T'):
	case TEXT('P', 'U', 'T', ' '):
	case TEXT('H', 'E', 'A', 'D'):
	case TEXT('D', 'E', 'L', 'E'):
	case TEXT('P', 'A', 'T', 'C'):
	case TEXT('O', 'P', 'T', 'I'):
	case TEXT('C', 'O', 'N', 'N'):
	case TEXT('T', 'R', 'A', 'C'):
	case TEXT('P', 'R', 'I', ' '): /* HTTP/2 */
	/* Without the first byte, which was read ahead. */
	case TEXT('E', 'T', ' ', '/'):
	case TEXT('O', 'S', 'T', ' '):
	case TEXT('U', 'T', ' ', '/'):
	case TEXT('E', 'A', 'D', ' '):
	case TEXT('E', 'L', 'E', 'T'):
	case TEXT('A', 'T', 'C', 'H'):
	case TEXT('P', 'T', 'I', 'O'):
	case TEXT('O', 'N', 'N', 'E'):
	case TEXT('R', 'A', 'C', 'E'):
		return INTEREST_REQUEST;
	}
	/* Less than a method. */
	if (bytes < 4 && ((b[0] == 'G' && b[1] == 'E') || (b[0] == 'P' && (b[1] == 'O' || b[1] == 'U')) ||
			  (b[0] == 'H' && b[1] == 'E') || (b[0] == 'D' && b[1] == 'E')))
		return INTEREST_REQUEST;
	/* A HEADERS frame of HTTP/2 (RFC 9113, section 6.2) that a client may send,
	 * at most as large as frames are unless agreed otherwise. */
	if (bytes > 9 && b[0] == 0 && b[1] <= 0x40 && b[3] == 1 && (b[4] & ~0x2d) == 0 && b[5] == 0 &&
	    (b[8] & 1))
		return INTEREST_REQUEST;
	return INTEREST_NONE;
}

/* The open file of a descriptor, NULL if there is none. */
static __always_inline struct file *file_of(struct task_struct *task, __u64 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if ((__u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &files[(__u32)fd]);
	return file;
}

/* The inode number of a stream socket, 0 if the file is none. */
static __always_inline __u64 stream_socket(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct socket *socket;

	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	if (BPF_CORE_READ(socket, type) != SOCK_STREAM)
		return 0;
	return BPF_CORE_READ(inode, i_ino);
}

static __always_inline bool is_watched(__u64 socket)
{
	return watching && bpf_map_lookup_elem(&watched, &socket);
}

/* Fills in who and when. */
static __always_inline void begin(struct task_struct *task, struct record *r, enum activity_kind what)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct who who;

	find_executor(task, pid_tgid >> 32, (__u64)BPF_CORE_READ(task, mm), BPF_CORE_READ(task, self_exec_id),
		      &who);
	r->head = (struct activity){
		.kind = RECORD_ACTIVITY,
		.what = what,
		.executor = who.executor,
		.time_ns = bpf_ktime_get_ns(),
		.goroutine = who.goroutine,
		.parent = who.parent,
		.tgid = pid_tgid >> 32,
		.tid = (__u32)pid_tgid,
		.lost = lost,
	};
}

/* Hands a record over. User space polls. */
static __always_inline void send(struct record *r)
{
	__u64 bytes = sizeof(r->head) + r->head.captured;

	if (bytes > sizeof(*r))
		bytes = sizeof(*r);
	if (bpf_ringbuf_output(&activities, r, bytes, BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&lost, 1);
}

static __always_inline struct record *my_record(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&records, &zero);
}

/* Reports a read or write of some bytes if it is of interest. */
static __always_inline void report(struct task_struct *task, enum activity_kind what, struct call *call,
				   __u64 bytes)
{
	struct record *r = my_record();
	__u64 most, socket;
	enum interest interest;
	struct file *file;
	__u32 one = 1, tid;

	if (!r)
		return;
	if (call->length > bytes)
		call->length = bytes;
	if (call->length >= 16)
		bpf_probe_read_user(r->data, 16, (void *)call->buffer);
	else
		bpf_probe_read_user(r->data, call->length & 15, (void *)call->buffer);
	interest = look(r->data, call->length);
	if (interest == INTEREST_NONE && !watching)
		return;
	file = file_of(task, call->fd);
	socket = stream_socket(file);
	if (socket == 0)
		return;
	most = interest == INTEREST_RESPONSE ? CAPTURE_RESPONSE : CAPTURE_REQUEST;
	if (is_watched(socket))
		most = CAPTURE_WATCHED;
	else if (interest == INTEREST_NONE)
		return;
	begin(task, r, what);
	r->head.socket = socket;
	r->head.bytes = bytes;
	if (BPF_CORE_READ(file, f_flags) & O_NONBLOCK)
		r->head.flags |= ACTIVITY_NONBLOCKING;
	if (most > call->length)
		most = call->length;
	if (most > 0 && most <= CAPTURE_WATCHED && !bpf_probe_read_user(r->data, most, (void *)call->buffer))
		r->head.captured = most;
	if (r->head.executor == EXECUTOR_THREAD && (r->head.flags & ACTIVITY_NONBLOCKING)) {
		tid = r->head.tid;
		bpf_map_update_elem(&turns, &tid, &one, BPF_ANY);
	}
	send(r);
}

static __always_inline struct task_struct *current(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

static __always_inline bool of_interest(const struct exit_context *ctx)
{
	return ctx->result > 0 && bpf_get_current_pid_tgid() >> 32 != own_tgid;
}

#define AT_EXIT(name, what, prepare)                                                               \
	SEC("tracepoint/syscalls/sys_exit_" #name)                                                 \
	int exit_##name(struct exit_context *ctx)                                                  \
	{                                                                                          \
		struct task_struct *task = current();                                              \
		struct call call;                                                                  \
                                                                                                   \
		if (of_interest(ctx) && read_call(task, &call) && prepare)                         \
			report(task, what, &call, ctx->result);                                    \
		return 0;                                                                          \
	}

AT_EXIT(read, ACTIVITY_READ, true)
AT_EXIT(readv, ACTIVITY_READ, first_buffer(&call))
AT_EXIT(recvfrom, ACTIVITY_READ, true)
AT_EXIT(recvmsg, ACTIVITY_READ, first_of_message(&call))
AT_EXIT(write, ACTIVITY_WRITE, true)
AT_EXIT(writev, ACTIVITY_WRITE, first_buffer(&call))
AT_EXIT(sendto, ACTIVITY_WRITE, true)
AT_EXIT(sendmsg, ACTIVITY_WRITE, first_of_message(&call))

/* Whether no other descriptor refers to the file. */
static __always_inline bool is_last(struct file *file)
{
	struct file___ref *newer = (struct file___ref *)file;

	if (bpf_core_field_exists(newer->f_ref))
		return BPF_CORE_READ(newer, f_ref.refcnt.counter) == 0; /* counts the others */
	return BPF_CORE_READ(file, f_count.counter) == 1;
}

SEC("tracepoint/syscalls/sys_enter_close")
int enter_close(struct enter_context *ctx)
{
	struct task_struct *task = current();
	struct file *file = file_of(task, ctx->args[0]);
	struct record *r = my_record();
	__u64 socket;

	if (!r || !file)
		return 0;
	socket = stream_socket(file);
	if (socket == 0 || !is_last(file) || bpf_get_current_pid_tgid() >> 32 == own_tgid)
		return 0;
	begin(task, r, ACTIVITY_CLOSE);
	r->head.socket = socket;
	send(r);
	return 0;
}

static __always_inline int wait(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct record *r = my_record();

	if (!r || !bpf_map_lookup_elem(&turns, &tid))
		return 0;
	bpf_map_delete_elem(&turns, &tid);
	begin(current(), r, ACTIVITY_WAIT);
	send(r);
	return 0;
}

#define AT_WAIT(name)                                                                              \
	SEC("tracepoint/syscalls/sys_enter_" #name)                                                \
	int enter_##name(struct enter_context *ctx)                                                \
	{                                                                                          \
		return wait();                                                                     \
	}

AT_WAIT(epoll_wait) /* not on arm64 */
AT_WAIT(epoll_pwait)
AT_WAIT(epoll_pwait2) /* Linux 5.11 */

/* bpf_probe_read_*() are for GPL-compatible programs. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";
