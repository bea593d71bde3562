// SPDX-License-Identifier: Apache-2.0
/* A thread per connection, TLS by GnuTLS: gnutls PORT CERTIFICATE KEY. A thread's name
 * tells what it is at. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 8192 };

static gnutls_certificate_credentials_t credentials;

static void check(int error, const char *what)
{
	if (error >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, gnutls_strerror(error));
	exit(1);
}

/* Works for about so many milliseconds under a name. */
static void work(const char *name, int ms)
{
	volatile unsigned x = 1;

	prctl(PR_SET_NAME, name);
	for (int i = 0; i < ms * 150000; i++)
		x = x * 1103515245 + 12345;
	prctl(PR_SET_NAME, "idle");
}

static void work_in_slices(const char *name)
{
	for (int i = 0; i < 4; i++) {
		work(name, 1);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* Does the work of the route and returns its letter; 0 if there is none. */
static char serve(const char *head)
{
	if (!strncmp(head, "GET /work/", 10))
		return work("work-a", 2), 'a';
	if (!strncmp(head, "GET /tree/", 10))
		return work("work-b", 8), 'b';
	if (!strncmp(head, "POST /orders/", 13))
		return work_in_slices("work-c"), 'c';
	if (!strncmp(head, "GET /files/", 11))
		return work("work-d", 1), 'd';
	return 0;
}

/* Reads a request with its body, which fits in the buffer; false at the end. */
static int receive(gnutls_session_t session, char *head)
{
	size_t have = 0, want = 0;

	while (want == 0 || have < want) {
		ssize_t n = gnutls_record_recv(session, head + have, HEAD - 1 - have);
		if (n <= 0)
			return 0;
		have += n;
		head[have] = 0;
		char *end = strstr(head, "\r\n\r\n"), *length = strcasestr(head, "\r\nContent-Length:");
		if (end)
			want = end + 4 - head + (length && length < end ? atoi(length + 17) : 0);
	}
	return 1;
}

static void *connection(void *arg)
{
	int fd = (int)(long)arg;
	char head[HEAD], answer[128];
	gnutls_session_t session;

	prctl(PR_SET_NAME, "idle");
	check(gnutls_init(&session, GNUTLS_SERVER), "gnutls_init");
	check(gnutls_set_default_priority(session), "gnutls_set_default_priority");
	check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials), "gnutls_credentials_set");
	gnutls_transport_set_int(session, fd);
	if (gnutls_handshake(session) == 0) {
		while (receive(session, head)) {
			char letter = serve(head);
			int n = snprintf(answer, sizeof(answer), "HTTP/1.1 %s\r\nContent-Length: 1\r\n\r\n%c",
					 letter ? "200 OK" : "404 Not Found", letter ? letter : '-');
			if (gnutls_record_send(session, answer, n) != n)
				break;
			work("backgrnd", 1); // the answer is written
		}
		gnutls_bye(session, GNUTLS_SHUT_WR);
	}
	gnutls_deinit(session);
	close(fd);
	return NULL;
}

static void *background(void *arg)
{
	(void)arg;
	for (;;) {
		work("backgrnd", 3);
		nanosleep(&(struct timespec){.tv_nsec = 40000000}, NULL);
	}
	return NULL;
}

static void start(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg))
		exit(1);
	pthread_detach(thread);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 4)
		return 2;
	check(gnutls_certificate_allocate_credentials(&credentials), "gnutls_certificate_allocate_credentials");
	check(gnutls_certificate_set_x509_key_file(credentials, argv[2], argv[3], GNUTLS_X509_FMT_PEM),
	      "gnutls_certificate_set_x509_key_file");
	address.sin_port = htons(atoi(argv[1]));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 128)) {
		perror("listen");
		return 1;
	}
	start(background, NULL);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd >= 0)
			start(connection, (void *)(long)fd);
	}
}
