//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What threads read from stream sockets and write to them, as far as it tells of
 * requests: the beginnings of requests and responses, the end of a connection,
 * the end of a turn of an event loop. What they mean is decided in user space.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "events.h"
#include "kernel.h"
#include "executor.h"
#include "regs.h"
#include "task.h"

/* Named so that bpf2go emits Go types and constants for them. */
const enum activity_kind emit_activity_kind __attribute__((unused));
const enum activity_flag emit_activity_flag __attribute__((unused));
const enum capture emit_capture __attribute__((unused));
const struct activity emit_activity __attribute__((unused));

/* Load-time constants, set by bpf.LoadRequests before the verifier sees the programs. */

/* The agent's own process, which is not looked at. */
const volatile __u32 own_tgid = 0;

/* Bytes captured of a request: CAPTURE_REQUEST or CAPTURE_HEADERS. */
const volatile __u32 capture_request = CAPTURE_REQUEST;

/* Activities that found no room in the ring. */
__u64 lost = 0;

/* Not 0 once a socket is watched. Until then, transfers that look like nothing are
 * done at once. */
__u64 watching = 0;

/* To user space. The loader sets the size from the memory budget. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} activities SEC(".maps");

/* Inode number of a socket → 1. Everything on these is sent. Of more than this many
 * the least recently used are forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u32);
} watched SEC(".maps");

/* Threads whose turn has brought an activity and has not ended: low bits of the
 * tid → 1. Threads that share them only report a turn too often. */
#define TURNS 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TURNS);
	__type(key, __u32);
	__type(value, __u8);
} turns SEC(".maps");

/*
 * A connection to a server of Go whose memory tells which request is served. Its
 * samples need no activities, so of a busy one only some requests are sent, each
 * with the number of those before it that were passed over.
 */
struct connection {
	__u32 told;   /* requests that were all read by such a server */
	__u32 left;   /* requests to be passed over before the next that is sent */
	__u32 passed; /* since the last that was sent */
	__u8 passing; /* the one that is served now was passed over */
	__u8 answered; /* the one that was sent last */
	__u8 ahead;   /* one byte of the next request was read */
	__u8 body;    /* the one that was read last may have a body */
	__u8 forced;  /* it is sent because of that, not by chance, and stands for itself only */
	__u8 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/* A connection is busy after so many requests. From then on LEAST to LEAST + SPREAD
 * are passed over for one that is sent: 16 on average; at random, since clients
 * repeat themselves. */
#define BUSY 64
#define LEAST 8
#define SPREAD 15

/* Processes that have read a request: low bits of the tgid → 1. What others ask
 * and are answered is nobody's business; of those that share the bits too much is
 * sent. */
#define SERVERS 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVERS);
	__type(key, __u32);
	__type(value, __u8);
} servers SEC(".maps");

/* The bytes read to tell whether a transfer is of interest; a power of two. */
#define FIRST_LOOK CAPTURE_RESPONSE

/* The record in the making. No program that uses it is entered while another one runs
 * on the CPU: they run in process context, with preemption off, and not in interrupts
 * but for socket_state(), which has a record of its own; uprobes use none, see tls.h. */
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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct activity);
} closings SEC(".maps");

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

/* The arguments of a system call, and what they say. */
struct call {
	__u64 fd;
	__u64 buffer;
	__u64 length;
	__u64 fourth;
};

/* A read or write of a stream socket. */
struct transfer {
	__u64 fd;
	__u64 buffer; /* the first, or only one, that is not empty */
	__u64 length; /* of it */
	__u64 bytes;  /* that were moved */
	enum activity_kind what;
};

/* How much of a transfer is of interest. */
enum interest {
	INTEREST_NONE,
	INTEREST_REQUEST,
	INTEREST_RESPONSE,
	INTEREST_PREFACE, /* of HTTP/2 */
	INTEREST_TLS,	  /* not in itself, but it may be the beginning of a request */
};

/* include/linux/socket.h. */
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_ERRQUEUE 0x2000

/* What is only looked at will be read again; what is thrown away, tcp(7), or no data
 * does not come into the buffer. */
#define MSG_NOT_READ (MSG_PEEK | MSG_TRUNC | MSG_ERRQUEUE)

/*
 * Reading the kernel's memory. Pointers whose type the verifier knows are followed
 * at the cost of a load; before Linux 6.2 each step is a call.
 */

extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

#define HAS_CAST (!!bpf_rdonly_cast)

#define READ(type, pointer, field)                                                                 \
	(HAS_CAST ? ((struct type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(struct type))) \
				->field                                                            \
		  : BPF_CORE_READ((struct type *)(pointer), field))

static __always_inline struct task_struct *current(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* The open file of a descriptor, NULL if there is none. */
static __always_inline struct file *file_of(struct task_struct *task, __u64 fd)
{
	struct files_struct *all = READ(task_struct, task, files);
	struct fdtable *table = READ(files_struct, all, fdt);
	struct file **files = READ(fdtable, table, fd);
	struct file *file = NULL;

	if ((__u32)fd >= READ(fdtable, table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &files[(__u32)fd]);
	return file;
}

/* Reads the arguments of the call under way from the registers. */
static __always_inline void read_call(struct pt_regs *saved, struct call *call)
{
#if defined(__TARGET_ARCH_x86)
	call->fd = READ(pt_regs, saved, di);
	call->buffer = READ(pt_regs, saved, si);
	call->length = READ(pt_regs, saved, dx);
	call->fourth = READ(pt_regs, saved, r10);
#else
	/* At its end the result has taken the place of the first argument. */
	call->fd = READ(pt_regs, saved, orig_x0);
	call->buffer = READ(pt_regs, saved, regs[1]);
	call->length = READ(pt_regs, saved, regs[2]);
	call->fourth = READ(pt_regs, saved, regs[3]);
#endif
}

/* Of a vector so many buffers are looked at. */
#define VECTORS 4

/* Replaces a vector of so many buffers by the first one in it that is not empty; false
 * if there is none. */
static __always_inline bool first_of_vector(struct call *call, __u64 vectors, __u64 count)
{
	struct vector v;

#pragma clang loop unroll(full)
	for (int i = 0; i < VECTORS; i++) {
		if (i >= count || bpf_probe_read_user(&v, sizeof(v), (void *)(vectors + i * sizeof(v))))
			return false;
		if (v.length == 0)
			continue;
		call->buffer = v.base;
		call->length = v.length;
		return true;
	}
	return false;
}

static __always_inline bool first_buffer(struct call *call)
{
	return first_of_vector(call, call->buffer, call->length);
}

static __always_inline bool first_of_message(struct call *call)
{
	struct message m;

	if (bpf_probe_read_user(&m, sizeof(m), (void *)call->buffer))
		return false;
	return first_of_vector(call, m.vectors, m.count);
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
	case TEXT('P', 'R', 'I', ' '):
		return INTEREST_PREFACE;
	case TEXT('G', 'E', 'T', ' '):
	case TEXT('P', 'O', 'S', 'T'):
	case TEXT('P', 'U', 'T', ' '):
	case TEXT('H', 'E', 'A', 'D'):
	case TEXT('D', 'E', 'L', 'E'):
	case TEXT('P', 'A', 'T', 'C'):
	case TEXT('O', 'P', 'T', 'I'):
	case TEXT('C', 'O', 'N', 'N'):
	case TEXT('T', 'R', 'A', 'C'):
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
	/* A record of TLS, RFC 8446, section 5.1. */
	if (b[0] >= 0x14 && b[0] <= 0x17 && b[1] == 3 && b[2] <= 3)
		return INTEREST_TLS;
	/* A HEADERS frame of HTTP/2 (RFC 9113, section 6.2) that a client may send,
	 * at most as large as frames are unless agreed otherwise. */
	if (bytes > 9 && b[0] == 0 && b[1] <= 0x40 && b[3] == 1 && (b[4] & ~0x2d) == 0 && b[5] == 0 &&
	    (b[8] & 1))
		return INTEREST_REQUEST;
	return INTEREST_NONE;
}

/* Says who executes. */
static __always_inline void find_current(struct task_struct *task, __u64 mm, __u64 exec_id, struct who *who)
{
	struct layout *l = find_executor(bpf_get_current_pid_tgid() >> 32, mm, exec_id, who);

	if (l)
#if defined(__TARGET_ARCH_x86)
		find_caller(l, READ(task_struct, task, thread.fsbase), who);
#else
		find_caller(l, READ(pt_regs, user_registers(task), regs[REGISTER_G]), who);
#endif
}

/* Remembers the goroutine if it is one that serves requests, and says so. */
static __always_inline bool remember_server(const struct who *who)
{
	__u32 number = who->layout;
	struct layout *l;

	if (who->executor != EXECUTOR_GOROUTINE)
		return false;
	l = bpf_map_lookup_elem(&layouts, &number);
	if (!l || !served_by(l, who->g, who->bias))
		return false;
	remember(who);
	return true;
}

static __always_inline void remember_current(struct task_struct *task)
{
	struct who who;

	find_current(task, (__u64)READ(task_struct, task, mm), READ(task_struct, task, self_exec_id), &who);
	remember_server(&who);
}

/* Fills in who and when. */
static __always_inline void begin(struct task_struct *task, struct activity *a, enum activity_kind what,
				  struct who *who)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	a->kind = RECORD_ACTIVITY;
	a->what = what;
	a->flags = 0;
	a->reserved = 0;
	a->captured = 0;
	a->time_ns = bpf_ktime_get_ns();
	a->socket = 0;
	a->bytes = 0;
	a->passed = 0;
	a->tgid = pid_tgid >> 32;
	a->tid = (__u32)pid_tgid;
	a->lost = lost;
	a->mm = (__u64)READ(task_struct, task, mm);
	a->exec_id = READ(task_struct, task, self_exec_id);
	find_current(task, a->mm, a->exec_id, who);
	a->executor = who->executor;
	a->goroutine = who->goroutine;
}

/* Hands a record over, and tells whether there was room. User space polls. */
static __always_inline bool send(void *record, __u64 bytes)
{
	if (!bpf_ringbuf_output(&activities, record, bytes, BPF_RB_NO_WAKEUP))
		return true;
	__sync_fetch_and_add(&lost, 1);
	return false;
}

static __always_inline struct record *my_record(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&records, &zero);
}

static __always_inline bool is_own(void) { return bpf_get_current_pid_tgid() >> 32 == own_tgid; }

/* Reads the first bytes of a transfer into the record and tells whether they
 * look like anything. */
static __always_inline enum interest look_at(struct record *r, const struct transfer *t)
{
	if (t->length >= FIRST_LOOK) {
		if (bpf_probe_read_user(r->data, FIRST_LOOK, (void *)t->buffer))
			return INTEREST_NONE;
	} else if (bpf_probe_read_user(r->data, t->length & (FIRST_LOOK - 1), (void *)t->buffer)) {
		return INTEREST_NONE;
	}
	return look(r->data, t->length);
}

/* Whether everything on a socket is wanted. */
static __always_inline bool is_watched(__u64 socket)
{
	return watching && bpf_map_lookup_elem(&watched, &socket);
}

/* Makes everything on an HTTP/2 connection be sent from its first byte on. */
static __always_inline void watch(__u64 socket)
{
	__u32 one = 1;

	bpf_map_update_elem(&watched, &socket, &one, BPF_ANY);
	watching = 1;
}

/* Marks the turn of the thread's loop. */
static __always_inline void mark_turn(const struct record *r)
{
	__u32 key = r->head.tid & (TURNS - 1);
	__u8 *turn = bpf_map_lookup_elem(&turns, &key);

	if (turn)
		*turn = 1;
}

/* Tells from the flags of the file and of the call whether a transfer waits. */
static __always_inline __u8 blocking_flag(__u64 file, __u64 call)
{
	return (file & O_NONBLOCK) || (call & MSG_DONTWAIT) ? ACTIVITY_NONBLOCKING : 0;
}

/* Whether a transfer is that of a client that serves nobody. */
static __always_inline bool is_mere_client(const struct transfer *t, enum interest interest)
{
	__u32 key = (__u32)(bpf_get_current_pid_tgid() >> 32) & (SERVERS - 1);
	__u8 *server = bpf_map_lookup_elem(&servers, &key);
	bool reads = t->what == ACTIVITY_READ;

	if (!server || *server)
		return false;
	*server = reads && (interest == INTEREST_REQUEST || interest == INTEREST_PREFACE);
	return interest == (reads ? INTEREST_RESPONSE : INTEREST_REQUEST);
}

/* Whether a request, or what follows its first byte, may have a body. What looks like
 * the next request may then be a part of that, which only user space can tell. */
static __always_inline bool may_have_body(const __u8 *b, __u64 bytes)
{
	if (bytes == 1)
		return b[0] != 'G' && b[0] != 'H';
	switch (TEXT(b[0], b[1], b[2], b[3])) {
	case TEXT('G', 'E', 'T', ' '):
	case TEXT('E', 'T', ' ', '/'):
	case TEXT('H', 'E', 'A', 'D'):
	case TEXT('E', 'A', 'D', ' '):
		return false;
	}
	return true;
}

/* Takes that a request, or one byte of it, is sent that is or is not of a server
 * whose memory tells. */
static __always_inline struct connection *take_request(struct sock *sk, bool tells, __u64 bytes)
{
	struct connection *c = bpf_sk_storage_get(&connections, sk, NULL, tells ? BPF_SK_STORAGE_GET_F_CREATE : 0);

	if (!c || bytes == 1) /* read by another goroutine */
		return c;
	c->told = tells ? c->told + 1 : 0;
	if (!c->forced)
		c->left = c->told > BUSY ? LEAST + (bpf_get_prandom_u32() & SPREAD) : 0;
	c->answered = false;
	return c;
}

/* Whether a transfer on a connection belongs to a request that is passed over. */
static __always_inline bool pass_over(struct connection *c, const __u8 *b, const struct transfer *t,
				      enum interest interest, __u64 socket)
{
	bool goes_on = c->ahead;
	bool may_have;

	if (t->what == ACTIVITY_WRITE) { /* of one that is not */
		c->answered |= interest == INTEREST_RESPONSE && b[9] != '1'; /* 1xx: it will be */
		return false;
	}
	if (interest != INTEREST_REQUEST)
		return c->passing;
	c->ahead = t->bytes == 1;
	if (goes_on)
		return c->passing;
	may_have = may_have_body(b, t->bytes);
	c->forced = c->body || may_have;
	c->body = may_have;
	if (c->forced || c->left == 0 || !c->answered || is_watched(socket)) {
		c->passing = false;
		return false;
	}
	c->left--;
	c->passed++;
	c->passing = true;
	return true;
}

/* How many bytes of a transfer are wanted, of a request so many; 0 for none at all. */
static __always_inline __u64 wanted_of(const struct transfer *t, enum interest interest, __u64 socket, __u64 request)
{
	bool mere_client = is_mere_client(t, interest);

	if (interest == INTEREST_PREFACE)
		watch(socket);
	if (is_watched(socket))
		return CAPTURE_WATCHED;
	if (interest == INTEREST_NONE || interest == INTEREST_TLS || mere_client)
		return 0;
	return interest == INTEREST_RESPONSE ? CAPTURE_RESPONSE : request;
}

#include "tls.h"

/* Whether a read ended within the head of a request, the rest of which looks like nothing.
 * Go's net/http first reads as many bytes as tell HTTP/2 from HTTP/1
 * (maybeServeUnencryptedHTTP2 in net/http/server.go). User space ends the watch. */
static __always_inline bool is_part_of_head(const __u8 *b, const struct transfer *t)
{
	return t->what == ACTIVITY_READ && b[0] >= 'A' && t->bytes > 1 &&
	       t->bytes < sizeof("ET / HTTP/1.1\r\n\r\n") - 1;
}

/* Sends a transfer of a stream socket, the first bytes of which are in the record.
 * sk is NULL where the kernel keeps nothing beside a socket for us. */
static __always_inline void report(struct task_struct *task, struct record *r, const struct transfer *t,
				   enum interest interest, struct sock *sk, __u64 socket, __u8 flags)
{
	struct connection *c = NULL;
	bool tells = false;
	struct who who;
	__u64 most;

	if (interest == INTEREST_TLS)
		moved_record(task, flags);
	most = wanted_of(t, interest, socket, capture_request);
	if (most == 0)
		return;
	if (interest == INTEREST_REQUEST && is_part_of_head(r->data, t))
		watch(socket);
	begin(task, &r->head, t->what, &who);
	if (t->what == ACTIVITY_READ)
		tells = remember_server(&who);
	if (sk && interest == INTEREST_REQUEST && t->what == ACTIVITY_READ)
		c = take_request(sk, tells, t->bytes);
	if (c && c->forced)
		c = NULL;
	if (c)
		r->head.passed = c->passed;
	r->head.socket = socket;
	r->head.bytes = t->bytes;
	if (most > t->length)
		most = t->length;
	if (most > CAPTURE_WATCHED ||
	    (most > FIRST_LOOK && bpf_probe_read_user(r->data, most, (void *)t->buffer)))
		most = 0;
	r->head.captured = most;
	r->head.flags = flags;
	if ((flags & ACTIVITY_NONBLOCKING) && r->head.executor != EXECUTOR_GOROUTINE)
		mark_turn(r);
	if (send(r, sizeof(r->head) + most) && c)
		c->passed = 0;
}

/*
 * Linux 6.3 and later: where the kernel has moved bytes through a socket. Nothing
 * but sockets pays.
 */

static __always_inline bool is_read(__u64 number)
{
	return number == NR_READ || number == NR_READV || number == NR_RECVFROM || number == NR_RECVMSG;
}

/* What a system call, by its number, says of the transfer under way; false for those that
 * say nothing. */
static __always_inline bool transfer_of(struct task_struct *task, __u64 bytes, struct transfer *t)
{
	struct pt_regs *saved = user_registers(task);
	struct call call;

#if defined(__TARGET_ARCH_x86)
	__u64 number = READ(pt_regs, saved, orig_ax);

	if (is_compat(READ(pt_regs, saved, cs)))
		return false;
#else
	__u64 number = (__u32)READ(pt_regs, saved, syscallno);

	if (is_compat(READ(pt_regs, saved, pstate)))
		return false;
#endif
	if (is_read(number) != (t->what == ACTIVITY_READ))
		return false;
	read_call(saved, &call);
	switch (number) {
	case NR_READ:
	case NR_RECVFROM:
	case NR_WRITE:
	case NR_SENDTO:
		break;
	case NR_READV:
	case NR_WRITEV:
		if (!first_buffer(&call))
			return false;
		break;
	case NR_RECVMSG:
	case NR_SENDMSG:
		if (!first_of_message(&call))
			return false;
		break;
	default: /* sendfile(2), io_uring_enter(2), the kernel's own */
		return false;
	}
	t->fd = call.fd;
	t->buffer = call.buffer;
	t->length = call.length < bytes ? call.length : bytes;
	t->bytes = bytes;
	return true;
}

/* Whether socket_state() is told of a close. */
static __always_inline bool is_inet(__u16 family) { return family == AF_INET || family == AF_INET6; }

static __always_inline int on_socket(struct sock *sk, int result, int flags, enum activity_kind what)
{
	struct transfer t = {.what = what};
	enum interest interest;
	struct task_struct *task;
	struct connection *c;
	struct socket *socket;
	struct record *r;
	struct file *file;

	if (result <= 0 || sk->sk_type != SOCK_STREAM || is_own() || (flags & MSG_NOT_READ))
		return 0;
	c = bpf_sk_storage_get(&connections, sk, NULL, 0);
	if (c && c->passing && what == ACTIVITY_WRITE)
		return 0;
	task = bpf_get_current_task_btf();
	r = my_record();
	if (!r || !transfer_of(task, result, &t))
		return 0;
	interest = look_at(r, &t);
	if (interest == INTEREST_NONE && !watching)
		return 0;
	if (interest == INTEREST_TLS && what == ACTIVITY_READ)
		remember_current(task);
	if (interest != INTEREST_TLS && in_tls_call())
		return 0;
	socket = sk->sk_socket;
	if (!socket)
		return 0;
	file = socket->file;
	/* Else it is the kernel's own, or moved beside the call: requests to io_uring end on
	 * the way out of whatever call their thread makes (task_work_run()). */
	if (!file || file_of(task, t.fd) != file)
		return 0;
	if (c && pass_over(c, r->data, &t, interest, file->f_inode->i_ino))
		return 0;
	report(task, r, &t, interest, sk, file->f_inode->i_ino,
	       blocking_flag(file->f_flags, flags) |
		       (is_inet(sk->__sk_common.skc_family) ? 0 : ACTIVITY_LOCAL));
	return 0;
}

SEC("tp_btf/sock_recv_length")
int socket_read(__u64 *ctx)
{
	return on_socket((struct sock *)ctx[0], (int)ctx[1], (int)ctx[2], ACTIVITY_READ);
}

SEC("tp_btf/sock_send_length")
int socket_written(__u64 *ctx)
{
	return on_socket((struct sock *)ctx[0], (int)ctx[1], (int)ctx[2], ACTIVITY_WRITE);
}

/* enum of net/tcp_states.h. */
#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9

/* A TCP connection is closed here, or aborted by either side. */
SEC("tp_btf/inet_sock_set_state")
int socket_state(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int state = (int)ctx[2];
	__u32 zero = 0;
	struct activity *a = bpf_map_lookup_elem(&closings, &zero);
	struct connection *c;
	struct socket *socket;
	struct file *file;
	struct who who;

	if (state != TCP_FIN_WAIT1 && state != TCP_LAST_ACK && state != TCP_CLOSE)
		return 0;
	socket = sk->sk_socket;
	if (!socket || !a)
		return 0;
	file = socket->file;
	if (!file)
		return 0;
	begin(bpf_get_current_task_btf(), a, ACTIVITY_CLOSE, &who);
	a->socket = file->f_inode->i_ino;
	c = bpf_sk_storage_get(&connections, sk, NULL, 0);
	if (c)
		a->passed = c->passed;
	if (send(a, sizeof(*a)) && c)
		c->passed = 0;
	return 0;
}

/*
 * Before: one tracepoint for each system call.
 */

/* The inode number of a stream socket, 0 if the file is none. */
static __always_inline __u64 stream_socket(struct file *file)
{
	struct inode *inode = READ(file, file, f_inode);
	struct socket *socket;

	if ((READ(inode, inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = READ(file, file, private_data);
	if (READ(socket, socket, type) != SOCK_STREAM)
		return 0;
	return READ(inode, inode, i_ino);
}

static __always_inline void after_call(const struct call *call, __u64 result, __u64 flags,
				       enum activity_kind what)
{
	struct transfer t = {
		.buffer = call->buffer,
		.length = call->length < result ? call->length : result,
		.bytes = result,
		.what = what,
	};
	struct task_struct *task = current();
	struct record *r = my_record();
	enum interest interest;
	struct file *file;
	__u64 socket;

	if (!r || (flags & MSG_NOT_READ))
		return;
	interest = look_at(r, &t);
	if (interest == INTEREST_NONE && !watching)
		return;
	if (interest != INTEREST_TLS && in_tls_call())
		return;
	file = file_of(task, call->fd);
	socket = stream_socket(file);
	if (socket)
		report(task, r, &t, interest, NULL, socket,
		       blocking_flag(READ(file, file, f_flags), flags));
}

#define AT_EXIT(name, what, prepare, flags)                                                        \
	SEC("tracepoint/syscalls/sys_exit_" #name)                                                 \
	int exit_##name(struct exit_context *ctx)                                                  \
	{                                                                                          \
		struct call call;                                                                  \
                                                                                                   \
		if (ctx->result <= 0 || is_own())                                                  \
			return 0;                                                                  \
		read_call(user_registers(current()), &call);                                       \
		__u64 with = flags;                                                                \
		if (prepare)                                                                       \
			after_call(&call, ctx->result, with, what);                                \
		return 0;                                                                          \
	}

AT_EXIT(read, ACTIVITY_READ, true, 0)
AT_EXIT(readv, ACTIVITY_READ, first_buffer(&call), 0)
AT_EXIT(recvfrom, ACTIVITY_READ, true, call.fourth)
AT_EXIT(recvmsg, ACTIVITY_READ, first_of_message(&call), call.length)
AT_EXIT(write, ACTIVITY_WRITE, true, 0)
AT_EXIT(writev, ACTIVITY_WRITE, first_buffer(&call), 0)
AT_EXIT(sendto, ACTIVITY_WRITE, true, call.fourth)
AT_EXIT(sendmsg, ACTIVITY_WRITE, first_of_message(&call), call.length)

/* Whether no other descriptor refers to the file. */
static __always_inline bool is_last(struct file *file)
{
	struct file___ref *newer = (struct file___ref *)file;

	if (bpf_core_field_exists(newer->f_ref))
		return BPF_CORE_READ(newer, f_ref.refcnt.counter) == 0; /* counts the others */
	return BPF_CORE_READ(file, f_count.counter) == 1;
}

static __always_inline int on_close(struct enter_context *ctx, bool inet_too)
{
	struct task_struct *task = current();
	struct file *file = file_of(task, ctx->args[0]);
	struct record *r = my_record();
	struct socket *socket;
	struct sock *sk;
	struct who who;
	__u64 number;

	if (!r || !file)
		return 0;
	number = stream_socket(file);
	if (number == 0 || !is_last(file) || is_own())
		return 0;
	if (!inet_too) {
		socket = READ(file, file, private_data);
		sk = READ(socket, socket, sk);
		if (is_inet(READ(sock, sk, __sk_common.skc_family)))
			return 0;
	}
	begin(task, &r->head, ACTIVITY_CLOSE, &who);
	r->head.socket = number;
	send(&r->head, sizeof(r->head));
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_close")
int enter_close(struct enter_context *ctx)
{
	return on_close(ctx, true);
}

/* Beside the tracepoints of sockets, once user space has seen a server on a socket
 * that is not of the internet: no tracepoint but this tells of its close. */
SEC("tracepoint/syscalls/sys_enter_close")
int enter_close_local(struct enter_context *ctx)
{
	return on_close(ctx, false);
}

/*
 * A goroutine that serves one request of a connection begins: it is remembered for
 * the goroutines that it may start.
 */

SEC("uprobe")
int goroutine_began(void *ctx)
{
	remember_current(current());
	return 0;
}

/*
 * Event loops, on every kernel, once user space has seen one.
 */

static __always_inline int wait(void)
{
	__u32 key = (__u32)bpf_get_current_pid_tgid() & (TURNS - 1);
	__u8 *turn = bpf_map_lookup_elem(&turns, &key);
	struct record *r;
	struct who who;

	if (!turn || !*turn)
		return 0;
	*turn = 0;
	r = my_record();
	if (!r)
		return 0;
	begin(current(), &r->head, ACTIVITY_WAIT, &who);
	send(&r->head, sizeof(r->head));
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
