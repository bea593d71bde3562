// SPDX-License-Identifier: Apache-2.0

package rpc

var headStories = map[string]string{
	"Go reads one byte on another goroutine": `
		G1 read 5 GET /a
		G1 write 5 200
		G2<1 read 5 "G"
		G1 sample unattributed
		G1 read 5 "ET /b HTTP/1.1\r\nHost: x\r\n\r\n"
		G1 sample exact GET /b
		G2<1 sample inferred GET /b
		G1 write 5 200
		G1 sample unattributed`,
	"a head in three parts": warm + `
		T1 read 5 "GE"
		watched 5
		T1 read 5 "T /items/4"
		T1 sample unattributed
		T1 read 5 "2 HTTP/1.1\r\nHost: x\r\n\r\n"
		T1 sample exact GET /items/{number}
		T1 write 5 200`,
	"one byte that was not the beginning of the next": warm + `
		T1 read 5 "P"
		T1 read 5 GET /a
		T1 sample exact GET /a
		T1 write 5 200`,
	"a body that looks like a request": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 30\r\n\r\n"
		T1 read 5 GET /evil
		T1 sample exact POST /a
		T1 write 5 200
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200`,
	"a chunked body that looks like a request": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" of 4000
		T1 read 5 GET /evil
		T1 sample exact POST /a
		T1 write 5 200
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200`,
	"an answer that looks like a request": warm + `
		T1 read 5 GET /a
		T1 write 5 200
		T1 write 5 GET /evil
		T1 sample unattributed
		T1 read 5 GET /b
		T1 sample exact GET /b`,
	"pipelining": warm + `
		T1 read 5 GET /a + GET /b
		watched 5
		T1 sample ambiguous
		T1 write 5 200
		T1 sample exact GET /b
		T1 write 5 200
		T1 sample unattributed`,
	"pipelining, with bodies": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /c HTTP/1.1\r\n\r\n"
		T1 sample ambiguous
		T1 write 5 200
		T1 write 5 200
		T1 sample exact GET /c
		T1 write 5 200`,
	"pipelined answers in one write": warm + `
		T1 read 5 GET /a + GET /b + GET /c
		T1 write 5 200 + 404
		T1 sample exact GET /c
		T1 write 5 200
		T1 sample unattributed`,
	"pipelined answers in one write, the end not captured": warm + `
		T1 read 5 GET /a + GET /b + GET /c
		T1 write 5 200 of 60
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" of 4000
		T1 sample ambiguous`,
	"a request behind the captured bytes": warm + `
		T1 read 5 GET /a of 37
		T1 read 5 GET /a of 90
		T1 sample ambiguous
		T1 write 5 200
		T1 sample ambiguous`,
	"a head whose rest was not reported": warm + `
		T1 read 5 "GET /items/42/par"
		T1 write 5 200
		counted GET /items/{number}/{rest} 1
		T1 read 5 "GE"
		T1 write 5 404
		counted * 1
		T1 read 5 GET /b
		T1 sample ambiguous
		T1 write 5 200
		counted GET /b 1
		counted * 1`,
	"a body after a head whose rest was not reported": warm + `
		T1 read 5 "POST /items/42?x"
		T1 read 5 GET /evil
		T1 sample ambiguous
		T1 write 5 200
		counted POST /items/{number} 1
		counted GET /evil 0
		T1 read 5 "POST /a?"
		T1 read 5 GET /evil
		T1 read 5 "GET /evil HT"
		T1 write 5 500
		counted POST /a 1
		counted * 0`,
	"less than a method, and then a body": warm + `
		T1 read 5 "PO"
		T1 read 5 GET /evil
		T1 sample ambiguous
		T1 write 5 200
		T1 sample unattributed`,
	"pipelined requests behind the captured bytes": warm + `
		T1 read 5 GET /a + GET /b of 500
		T1 write 5 200
		T1 sample ambiguous
		T1 write 5 200
		T1 write 5 200
		T1 write 5 200
		counted GET /a 1
		counted GET /b 1
		counted * 2`,
	"the last head behind the captured bytes": warm + `
		T1 read 5 "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nCook" of 500
		T1 write 5 200
		T1 sample ambiguous
		T1 write 5 200`,
	"an answer to a request that was given up": warm + `
		T1 read 5 GET /a
		after 11m
		T1 sample unattributed
		T1 write 5 200
		counted GET /a 1
		counted * 0`,
	"answers without a request show that one was not seen": warm + `
		T1 read 5 "GET /a HTTP/1.1\r\nCookie: x" of 1000
		T1 sample exact GET /a
		T1 write 5 200
		T1 write 5 200
		watched 5
		T1 read 5 GET /b
		T1 sample ambiguous
		T1 write 5 200`,
	"a target cut by the capture": warm + `
		T1 read 5 "GET /search/some/thi" of 1000
		T1 sample exact GET /search/some/{rest}
		T1 write 5 200`,
	"not a request": warm + `
		T1 read 5 "GET  / HTTP/1.1\r\n\r\n"
		T1 read 6 "GET / HTTP/2.0\r\n\r\n"
		T1 read 7 "get / HTTP/1.1\r\n\r\n"
		T1 read 8 "GET /\r\n"
		T1 read 9 "GETAWAY car HTTP/1.1\r\n\r\n" of 10
		T1 sample unattributed`,
	"a method nobody knows": warm + `
		T1 read 5 BREW /pot/1
		T1 sample exact _OTHER /pot/{number}
		T1 write 5 "HTTP/1.1 418 I'm a teapot\r\n\r\n"`,
	"HEAD has no body": warm + `
		T1 read 5 HEAD /a + GET /b
		T1 write 5 "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		T1 sample unattributed`,
	"absolute form": warm + `
		T1 read 5 GET http://user:pw@host/a?b
		T1 sample exact GET /a
		T1 write 5 200`,
}
