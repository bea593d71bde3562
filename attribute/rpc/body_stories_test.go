// SPDX-License-Identifier: Apache-2.0

package rpc

// bodyStories are of bodies that look like heads. The kernel side reports what begins like
// one, wherever it stands.
var bodyStories = map[string]string{
	"an early answer, and the rest of the body looks like a request": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		T1 sample exact POST /a
		T1 write 5 413
		T1 sample unattributed
		T1 read 5 GET /evil
		T1 sample ambiguous
		T1 close 5
		counted POST /a 1
		counted GET /evil 0
		counted * 0`,
	"an early answer, and a chunked body that looks like requests": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
		T1 write 5 401
		T1 read 5 GET /evil
		T1 sample ambiguous
		T1 read 5 GET /evil + GET /evil
		T1 sample ambiguous
		T1 read 5 GET /b
		T1 sample ambiguous
		T1 write 5 200
		counted GET /evil 0
		counted GET /b 1
		counted * 0`,
	"an early answer, and requests behind it": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		T1 write 5 413
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200
		decided
		T1 read 5 GET /c
		T1 sample exact GET /c
		decided
		T1 write 5 200
		counted POST /a 1
		counted GET /b 1
		counted GET /c 1`,
	"a body that was read in between, and requests at once": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		T1 write 5 200
		T1 read 5 GET /b + GET /c
		T1 sample ambiguous
		T1 write 5 200
		T1 sample unattributed
		T1 write 5 200
		counted GET /c 1
		counted * 1`,
	"the answer to what may be a body takes long": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		T1 write 5 413
		T1 read 5 GET /b
		T1 sample ambiguous
		after 2100ms
		T2 sample unattributed
		decided
		T1 write 5 200
		counted GET /b 1`,
	"a body after an interim answer looks like a request": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
		T1 write 5 "HTTP/1.1 100 Continue\r\n\r\n"
		T1 read 5 GET /evil
		T1 sample exact POST /a
		T1 write 5 "HTTP/1.1 102 Processing\r\n\r\n"
		T1 read 5 GET /evil
		T1 sample exact POST /a
		T1 write 5 200
		counted GET /evil 0
		counted POST /a 1`,
	"an event loop, an early answer, and a body that looks like a request": `
		L1 wait
		L1 read 4 GET /a
		L1 write 4 200
		L1 wait
		L1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		L1 write 5 413
		L1 wait
		L1 read 5 GET /evil
		L1 sample ambiguous
		L1 write 105 GET /evil
		L1 wait
		L1 sample ambiguous
		L1 read 105 200
		L1 sample ambiguous
		L1 close 5
		counted GET /evil 0`,
	"an event loop, an early answer, and a request behind it": `
		L1 wait
		L1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		L1 write 5 413
		L1 wait
		L1 read 5 GET /b
		L1 sample exact GET /b
		L1 write 5 200
		decided
		counted GET /b 1`,
	"goroutines, an early answer, and a body that looks like a request": `
		G1 read 5 GET /warm
		G1 write 5 200
		G1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		G1 write 5 413
		G1 read 5 GET /evil
		G1 sample ambiguous
		G2<1 sample ambiguous
		G1 close 5
		counted GET /evil 0`,
	"a goroutine with two requests, one of which may be a body": `
		G1 read 6 GET /warm
		G1 write 6 200
		G1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		G1 write 5 413
		G1 read 6 GET /b
		G1 read 5 GET /c
		G1 sample ambiguous
		G1 write 5 200`,
	"an answer with a body that looks like answers": warm + `
		T1 read 5 GET /a
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
		T1 write 5 200
		T1 write 5 "HTTP/1.1 500 Internal Server Err" of 200
		T1 sample unattributed
		counted GET /a 1
		counted * 0
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200`,
	"an answer with a body that looks like answers, after a long head": warm + `
		T1 read 5 "GET /a HTTP/1.1\r\nCookie: x" of 1000
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
		T1 write 5 200
		T1 write 5 200
		counted GET /a 1
		counted * 0
		T1 read 5 GET /b
		T1 sample ambiguous
		T1 write 5 200`,
	"pipelining, and an answer with a body that looks like answers": warm + `
		T1 read 5 GET /a + GET /b + GET /c
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 84\r\n\r\n" of 48
		T1 write 5 200
		T1 write 5 200
		T1 sample ambiguous
		T1 write 5 200
		T1 sample ambiguous
		T1 write 5 200
		T1 sample unattributed
		counted GET /a 1
		counted GET /b 1
		counted GET /c 1
		counted * 0`,
	"pipelining, and answers whose bodies go by sendfile": warm + `
		T1 read 5 GET /a + GET /b + GET /c
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
		T1 sample ambiguous
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
		T1 sample unattributed
		T1 read 5 GET /a + GET /b
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
		T1 sample unattributed
		counted GET /a 2
		counted GET /b 2
		counted GET /c 1
		counted * 0`,
	"pipelining, and an answer of which nobody knows the length": warm + `
		T1 read 5 GET /a + GET /b + GET /c
		T1 write 5 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		T1 write 5 200
		T1 sample ambiguous
		T1 write 5 200`,
	"a client reads what looks like a request": `
		2:T1 read 5 GET /evil
		2:T1 sample ambiguous
		2:T1 close 5
		counted GET /evil 0`,
	"a thread with a request reads from elsewhere what looks like one": warm + `
		T1 read 5 GET /a
		T1 sample exact GET /a
		T1 read 6 GET /evil
		T1 sample ambiguous
		T1 write 5 200
		T1 sample ambiguous
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200
		T1 close 6
		counted GET /a 1
		counted GET /evil 0`,
}
