// SPDX-License-Identifier: Apache-2.0
// A program with functions by the names of those of TLS libraries, which encrypt nothing. It
// moves a record of TLS through a socket, waits for a byte on standard input, and calls them as
// TestTLSActivities expects. It prints the addresses of its two sessions.
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the next call on a session does: it reads data, calls within, and returns result. */
struct session {
	const char *data;
	int bytes;
	void (*within)(void);
	int result;
	char padding[64]; // real ones are not smaller
};

static struct session a, b;
static char buffer[8192];
static int pair[2];
static jmp_buf outside;

#define FUNCTION __attribute__((noipa))

FUNCTION int SSL_read(struct session *s, void *to, int size)
{
	if (s->bytes > size)
		abort();
	memcpy(to, s->data, s->bytes);
	if (s->within)
		s->within();
	return s->result;
}

FUNCTION int SSL_write(struct session *s, const void *from, int size)
{
	(void)from, (void)size;
	if (s->within)
		s->within();
	return s->result;
}

/* As in LibreSSL. */
FUNCTION int SSL_read_ex(struct session *s, void *to, size_t size, size_t *moved)
{
	int n = SSL_read(s, to, size);

	*moved = n > 0 ? n : 0;
	return n > 0;
}

/* As in OpenSSL. */
FUNCTION int SSL_write_ex(struct session *s, const void *from, size_t size, size_t *moved)
{
	(void)from, (void)size;
	*moved = s->result;
	return s->result > 0;
}

FUNCTION void SSL_free(struct session *s)
{
	(void)s;
}

FUNCTION ssize_t gnutls_record_recv(struct session *s, void *to, size_t size)
{
	memcpy(to, s->data, (size_t)s->bytes < size ? (size_t)s->bytes : size);
	return s->result;
}

FUNCTION ssize_t gnutls_record_send(struct session *s, const void *from, size_t size)
{
	(void)from, (void)size;
	return s->result;
}

FUNCTION void gnutls_deinit(struct session *s)
{
	(void)s;
}

static void through_socket(const char *data, int bytes)
{
	if (write(pair[0], data, bytes) != bytes || read(pair[1], buffer, bytes) != bytes)
		abort();
}

static void record(void)
{
	through_socket("\x17\x03\x03\0\1x", 6); // RFC 8446, section 5.1
}

/* What the next call on a session reads, and then returns. */
static void next(struct session *s, const char *data, int result)
{
	*s = (struct session){.data = data, .bytes = strlen(data), .result = result};
}

static void reads(struct session *s, const char *data)
{
	next(s, data, strlen(data));
	SSL_read(s, buffer, sizeof(buffer));
}

static void writes(struct session *s, const char *data, int result)
{
	next(s, "", result);
	SSL_write(s, data, strlen(data));
}

static void read_from_kernel(void)
{
	if (read(pair[1], buffer, sizeof(buffer)) <= 0)
		abort();
}

static void leave(void)
{
	longjmp(outside, 1);
}

/* Makes another call, which never returns. */
static void interrupted(void)
{
	next(&b, "", 10);
	b.within = leave;
	if (!setjmp(outside))
		SSL_write(&b, "HTTP/1.1 500 Never\r\n\r\n", 22);
}

static void ex(void)
{
	size_t moved;

	next(&a, "POST /ex HTTP/1.1\r\n\r\n", 21);
	SSL_read_ex(&a, buffer, sizeof(buffer), &moved);
	next(&a, "", 24);
	SSL_write_ex(&a, "HTTP/1.1 201 Created\r\n\r\n", 24, &moved);
}

static void gnutls(void)
{
	next(&b, "HEAD /gnutls HTTP/1.1\r\n\r\n", 25);
	gnutls_record_recv(&b, buffer, sizeof(buffer));
	next(&b, "", 27);
	gnutls_record_send(&b, "HTTP/1.1 204 No Content\r\n\r\n", 27);
	gnutls_deinit(&b);
}

int main(void)
{
	static const char kernel[] = "GET /kernel HTTP/1.1\r\n\r\n";
	static char large[5001];
	static char request[301] = "GET /";

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 1;
	record();
	printf("%p %p\n", (void *)&a, (void *)&b);
	fflush(stdout);
	if (getchar() == EOF)
		return 1;

	memset(request + 5, 'x', 295);
	reads(&a, request);
	writes(&a, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", -1); // to be tried again
	writes(&a, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 40);
	ex();
	reads(&a, "nothing of interest");
	next(&a, "GET /nothing HTTP/1.1\r\n\r\n", 0);
	SSL_read(&a, buffer, sizeof(buffer));
	next(&a, "GET /interrupted HTTP/1.1\r\n\r\n", 29);
	a.within = interrupted;
	SSL_read(&a, buffer, sizeof(buffer));
	if (write(pair[0], kernel, sizeof(kernel) - 1) < 0)
		return 1;
	next(&a, kernel, sizeof(kernel) - 1);
	a.within = read_from_kernel;
	SSL_read(&a, buffer, sizeof(buffer));
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	record();
	reads(&a, "GET /turn HTTP/1.1\r\n\r\n");
	SSL_free(NULL);
	SSL_free(&a);
	gnutls();
	reads(&b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); // RFC 9113, section 3.4
	memset(large, 'x', 5000);
	reads(&b, large);
	SSL_free(&b);
	return 0;
}
