/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs that speak TLS by a C library. Uprobes at its functions see the bytes
 * before they are encrypted and after they were decrypted; these go the way of those
 * on plain sockets. rpc.bpf.c includes this behind what it needs of it.
 *
 * Since Linux 6.0 a uprobe's program may be preempted by another one on the same CPU
 * (bpf_prog_run_array_uprobe() disables migration only), so records are made in the
 * ring itself.
 */
#ifndef FLEETPROF_TLS_H
#define FLEETPROF_TLS_H

/* Not 0 once a library was probed. */
__u64 tls_probed = 0;

/* A thread that moves records of TLS through sockets, or calls a library. */
struct tls_thread {
	/* The address space for which user space was told; 0: not yet. */
	__u64 mm;
	__u64 exec_id;
	/* The call under way. session 0: there is none. */
	__u64 session;
	__u64 buffer;
	__u64 moved; /* where the library puts how many bytes it moved; 0: it returns that */
	__u64 sp;    /* at its first instruction */
	__u32 what;  /* enum activity_kind */
	/* Whether the socket was O_NONBLOCK that records were last moved through: it is
	 * most likely that of the session, and certainly one of the same kind of loop. */
	__u32 nonblocking;
};

/* Tgid and tid → the thread. Of more than this many the least recently used are
 * forgotten: then user space is told again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct tls_thread);
} tls_threads SEC(".maps");

static __always_inline struct tls_thread *find_tls_thread(void)
{
	__u64 id = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&tls_threads, &id);
}

static __always_inline struct tls_thread *make_tls_thread(void)
{
	struct tls_thread *thread = find_tls_thread();
	__u64 id = bpf_get_current_pid_tgid();
	struct tls_thread none = {};

	if (thread)
		return thread;
	bpf_map_update_elem(&tls_threads, &id, &none, BPF_NOEXIST);
	return find_tls_thread();
}

/* Room for a record in the ring, NULL if there is none. The size is a constant. */
static __always_inline struct record *reserve(__u64 data)
{
	struct record *r = bpf_ringbuf_reserve(&activities, sizeof(struct activity) + data, 0);

	if (!r)
		__sync_fetch_and_add(&lost, 1);
	return r;
}

/* Tells user space that the process moves records of TLS; 0 if that did not work. */
static __noinline int announce_tls(void)
{
	struct record *r = reserve(0);
	struct who who;

	if (!r)
		return 0;
	begin(current(), &r->head, ACTIVITY_TLS, &who);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 1;
}

/* Takes that the thread moved a record of TLS through a socket. */
static __always_inline void moved_record(struct task_struct *task, __u8 flags)
{
	struct tls_thread *thread = make_tls_thread();
	__u64 mm = (__u64)READ(task_struct, task, mm);
	__u64 exec_id = READ(task_struct, task, self_exec_id);

	if (!thread)
		return;
	thread->nonblocking = flags & ACTIVITY_NONBLOCKING;
	if ((thread->mm != mm || thread->exec_id != exec_id) && announce_tls()) {
		thread->mm = mm;
		thread->exec_id = exec_id;
	}
}

/* Whether a library makes the system call, to a socket for which the kernel encrypts
 * (Documentation/networking/tls.rst): the library's own call is told instead. */
static __always_inline bool in_tls_call(void)
{
	struct tls_thread *thread;

	if (!tls_probed)
		return false;
	thread = find_tls_thread();
	return thread && thread->session;
}

/*
 * The calling conventions: System V psABI for AMD64, section 3.2.3; AAPCS64,
 * section 6.8.2. On amd64 a return takes the return address off the stack.
 */
#if defined(__TARGET_ARCH_x86)
#define ARGUMENT_1(regs) ((regs)->di)
#define ARGUMENT_2(regs) ((regs)->si)
#define ARGUMENT_4(regs) ((regs)->cx)
#define RESULT(regs) ((regs)->ax)
#define RETURN_ADDRESS_BYTES 8
#else
#define ARGUMENT_1(regs) ((regs)->regs[0])
#define ARGUMENT_2(regs) ((regs)->regs[1])
#define ARGUMENT_4(regs) ((regs)->regs[3])
#define RESULT(regs) ((regs)->regs[0])
#define RETURN_ADDRESS_BYTES 0
#endif

/* What stands for the socket of a session, unlike any inode number: those have 32 bits
 * (get_next_ino() in fs/inode.c). User addresses have 47 bits on amd64, objects of
 * sessions more than 64 bytes, and process ids 22 bits (PID_MAX_LIMIT), so no two
 * sessions alive have the same one; on arm64, of 48 bits, none of one process. */
static __always_inline __u64 session_socket(__u64 session)
{
	__u64 tgid = bpf_get_current_pid_tgid() >> 32;

	return 1ULL << 63 | (session >> 6 ^ tgid << 41);
}

/* Makes the record of a transfer, with so many of its bytes in the room for them. */
#define CAPTURE(t, most, room)                                                                     \
	({                                                                                         \
		struct record *made = reserve(room);                                               \
		if (made)                                                                          \
			made->head.captured =                                                      \
				bpf_probe_read_user(made->data, most, (void *)(t)->buffer) ? 0 : (most); \
		made;                                                                              \
	})

/* Sends what a session has moved, if that is of interest. */
static __always_inline void report_session(const struct transfer *t, __u64 session, bool nonblocking)
{
	__u64 socket = session_socket(session);
	__u8 first[16] = {};
	struct record *r;
	struct who who;
	__u64 most;
	__u16 captured;

	if (bpf_probe_read_user(first, t->length < sizeof(first) ? t->length : sizeof(first), (void *)t->buffer))
		return;
	most = wanted_of(t, look(first, t->length), socket, CAPTURE_REQUEST);
	if (most == 0)
		return;
	if (most > t->length)
		most = t->length;
	if (most <= CAPTURE_RESPONSE)
		r = CAPTURE(t, most, CAPTURE_RESPONSE);
	else if (most <= CAPTURE_REQUEST)
		r = CAPTURE(t, most, CAPTURE_REQUEST);
	else
		r = CAPTURE(t, most, CAPTURE_WATCHED);
	if (!r)
		return;
	captured = r->head.captured;
	begin(current(), &r->head, t->what, &who);
	r->head.captured = captured;
	r->head.socket = socket;
	r->head.bytes = t->bytes;
	if (nonblocking) {
		r->head.flags |= ACTIVITY_NONBLOCKING;
		mark_turn(r);
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* A call begins. It takes the place of one that it is made by: of calls in calls only
 * the inner one is told. */
static __always_inline int enter(const struct user_abi *regs, enum activity_kind what, __u64 moved)
{
	struct tls_thread *thread = make_tls_thread();

	if (!thread)
		return 0;
	thread->session = ARGUMENT_1(regs);
	thread->buffer = ARGUMENT_2(regs);
	thread->moved = moved;
	thread->sp = regs->sp;
	thread->what = what;
	return 0;
}

/* SSL_read(3), SSL_write(3), gnutls_record_recv(3), gnutls_record_send(3): session,
 * buffer and size, and the result is a number of bytes if there are any. */
SEC("uprobe")
int tls_read(struct user_abi *regs)
{
	return enter(regs, ACTIVITY_READ, 0);
}

SEC("uprobe")
int tls_write(struct user_abi *regs)
{
	return enter(regs, ACTIVITY_WRITE, 0);
}

/* SSL_read_ex(3), SSL_write_ex(3): the number goes to where the fourth argument points,
 * and the result is 1. */
SEC("uprobe")
int tls_read_ex(struct user_abi *regs)
{
	return enter(regs, ACTIVITY_READ, ARGUMENT_4(regs));
}

SEC("uprobe")
int tls_write_ex(struct user_abi *regs)
{
	return enter(regs, ACTIVITY_WRITE, ARGUMENT_4(regs));
}

/* Any of them returns. Writes are not told when they begin, because a write that found no
 * room in the socket, or no handshake done, is tried again with the same bytes. */
SEC("uprobe")
int tls_done(struct user_abi *regs)
{
	struct tls_thread *thread = find_tls_thread();
	__s32 result = (__s32)RESULT(regs);
	struct transfer t = {};
	__u64 session;

	if (!thread || thread->session == 0 || regs->sp != thread->sp + RETURN_ADDRESS_BYTES)
		return 0;
	session = thread->session;
	thread->session = 0;
	if (result <= 0)
		return 0;
	t.bytes = thread->moved ? user_word(thread->moved) : result;
	if (t.bytes == 0 || t.bytes >> 31)
		return 0;
	t.buffer = thread->buffer;
	t.length = t.bytes;
	t.what = thread->what;
	report_session(&t, session, thread->nonblocking);
	return 0;
}

/* SSL_free(3), gnutls_deinit(3). */
SEC("uprobe")
int tls_free(struct user_abi *regs)
{
	struct record *r;
	struct who who;

	if (ARGUMENT_1(regs) == 0)
		return 0;
	r = reserve(0);
	if (!r)
		return 0;
	begin(current(), &r->head, ACTIVITY_CLOSE, &who);
	r->head.socket = session_socket(ARGUMENT_1(regs));
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
