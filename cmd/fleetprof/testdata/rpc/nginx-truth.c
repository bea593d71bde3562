// SPDX-License-Identifier: Apache-2.0
/* Names the thread of an event loop after the request it is at, for LD_PRELOAD.
 *
 * With $TRUTH_ROOT set, that is while a file below it is open: X.… is route X.
 * Otherwise it is told by what is on the sockets: each head that is read from a
 * client, and each that is written to an upstream server, names its route itself,
 * and what is done after a call on a socket is done for that one's request. At no
 * request is the loop from epoll_wait() on, and from a read of a client until that
 * has led to something.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define NEXT(function) (__typeof__(&function))dlsym(RTLD_NEXT, #function)

enum { FILES = 4096 };

/* Of each descriptor: the route of its request, 0 if there is none, whether it
 * leads upstream, and whether it is a file that names a route. */
static struct { char route, upstream, file; } sockets[FILES];
static char current;
static const char *root;

__attribute__((constructor)) static void init(void)
{
	root = getenv("TRUTH_ROOT");
	if (root)
		root = strdup(root); // nginx writes its title over the environment
}

/* Letter 0 is no request. */
static void name(char letter)
{
	char text[] = "work-?";

	if (letter == current)
		return;
	current = letter;
	text[5] = letter;
	prctl(PR_SET_NAME, letter ? text : "idle");
}

/* The route of a head; 0 if the bytes are none. */
static char route(const char *data, size_t length)
{
	static const char *const paths[] = {"GET /work/", "GET /tree/", "POST /orders/", "GET /files/"};

	for (int i = 0; i < 4; i++)
		if (length > strlen(paths[i]) && !memcmp(data, paths[i], strlen(paths[i])))
			return 'a' + i;
	return 0;
}

static int known(int fd)
{
	return !root && fd >= 0 && fd < FILES;
}

ssize_t recv(int fd, void *data, size_t length, int flags)
{
	name(known(fd) && sockets[fd].upstream ? sockets[fd].route : 0);
	ssize_t n = (NEXT(recv))(fd, data, length, flags);
	if (n > 0 && known(fd) && !sockets[fd].upstream) {
		char letter = route(data, n);
		if (letter)
			sockets[fd].route = letter;
		name(sockets[fd].route);
	}
	return n;
}

ssize_t readv(int fd, const struct iovec *parts, int n)
{
	if (known(fd))
		name(sockets[fd].route);
	return (NEXT(readv))(fd, parts, n);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
	if (known(fd) && n > 0) {
		char letter = route(parts[0].iov_base, parts[0].iov_len);
		if (letter) {
			sockets[fd].route = letter;
			sockets[fd].upstream = 1;
		}
		name(sockets[fd].route);
	}
	return (NEXT(writev))(fd, parts, n);
}

int close(int fd)
{
	if (fd >= 0 && fd < FILES) {
		if (sockets[fd].file)
			name(0);
		sockets[fd].route = sockets[fd].upstream = sockets[fd].file = 0;
	}
	return (NEXT(close))(fd);
}

int accept4(int listener, struct sockaddr *restrict address, socklen_t *restrict length, int flags)
{
	name(0);
	return (NEXT(accept4))(listener, address, length, flags);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
	name(0);
	return (NEXT(epoll_wait))(fd, events, n, timeout);
}

int open64(const char *path, int flags, ...)
{
	size_t n = root ? strlen(root) : 0;
	int is_route = n && !strncmp(path, root, n) && path[n] == '/';
	va_list rest;

	if (is_route)
		name(path[n + 1]);
	va_start(rest, flags);
	int fd = (NEXT(open64))(path, flags, va_arg(rest, mode_t));
	va_end(rest);
	if (fd >= 0 && fd < FILES)
		sockets[fd].file = is_route;
	return fd;
}
