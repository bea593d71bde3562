// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"maps"
	"strings"
)

// stories are what must be said in which situation.
func stories() map[string]string {
	all := maps.Clone(threadStories)
	for _, more := range []map[string]string{headStories, bodyStories, goStories, loopStories, quietStories, handoffStories} {
		maps.Copy(all, more)
	}
	return all
}

// warm makes process 1 one that is known to answer where it reads.
const warm = `
	T9 read 900 GET /warm
	T9 write 900 200
`

var threadStories = map[string]string{
	"a thread for each request": warm + `
		T1 sample unattributed
		T1 read 5 GET /a
		T1 sample exact GET /a
		T2 sample unattributed
		decided
		T1 write 5 200
		T1 sample unattributed
		T1 read 5 GET /b?token=secret
		T1 sample exact GET /b
		T1 write 5 500
		decided`,
	"the first answer of a process tells its model": `
		T1 read 5 GET /a
		T1 sample exact GET /a
		T1 write 5 200
		decided`,
	"no answer yet, and the window ends": `
		T1 read 5 GET /a
		T1 sample ambiguous
		flush
		decided
		T1 sample exact GET /a
		T1 write 5 200`,
	"no answer for two seconds": `
		T1 read 5 GET /a
		T1 sample ambiguous
		after 2100ms
		T2 sample unattributed
		decided`,
	"a tick that comes late": warm + `
		T1 read 5 GET /a
		T1 late unattributed
		T1 sample exact GET /a
		T1 write 5 200
		T1 late unattributed
		R1 late runtime`,
	"a request that is read by another process": warm + `
		2:T1 read 5 GET /a
		2:T1 sample exact GET /a
		1:T1 sample unattributed
		2:T1 write 5 200`,
	"the next request, on another socket, ends the one before": warm + `
		T1 read 5 GET /a
		T1 read 6 GET /b
		T1 sample exact GET /b
		T1 write 6 200
		T1 sample unattributed`,
	"the socket is closed": warm + `
		T1 read 5 GET /a
		T1 sample exact GET /a
		T1 close 5
		T1 sample unattributed
		decided`,
	"the process ends": warm + `
		T1 read 5 GET /a
		exited 1
		T1 sample unattributed`,
	"activities were lost": warm + `
		T1 read 5 GET /a
		lost
		T1 sample unattributed
		T1 write 5 200
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200`,
	"activities were lost again and again": warm + `
		T1 read 5 GET /a
		T2 read 6 GET /b
		L3 read 7 GET /c
		lost
		T1 sample unattributed
		T2 read 6 GET /d
		T2 sample exact GET /d
		L3 sample unattributed
		lost
		T2 sample unattributed
		T1 read 5 GET /e
		lost
		lost
		T1 sample unattributed
		L3 write 7 200
		L3 sample unattributed
		decided`,
	"activities were lost while a sample waits": `
		T1 read 5 GET /a
		T1 sample ambiguous
		lost
		decided`,
	"ten minutes are long": warm + `
		T1 read 5 GET /a
		after 11m
		T1 sample unattributed`,
	"a thread with a request waits for events of its own": warm + `
		T1 read 5 GET /a
		T1 sample exact GET /a
		T1 wait
		T1 sample ambiguous
		T1 write 5 200`,
	"nothing is concluded of executors that are not known": `
		U1 read 5 GET /a
		U1 sample unattributed
		U1 write 5 200
		R1 sample runtime`,
	"interim answers are none": warm + `
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
		T1 write 5 "HTTP/1.1 100 Continue\r\n\r\n"
		T1 sample exact POST /a
		T1 write 5 "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		T1 sample unattributed`,
	"a WebSocket is no HTTP": warm + `
		T1 read 5 "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
		T1 sample exact GET /chat
		T1 write 5 "HTTP/1.1 101 Switching Protocols\r\n\r\n"
		T1 sample unattributed
		T1 read 5 GET /b
		T1 sample unattributed`,
	"a tunnel is no HTTP": warm + `
		T1 read 5 CONNECT example.com:443
		T1 sample exact CONNECT {authority}
		T1 write 5 "HTTP/1.1 200 OK\r\n\r\n"
		T1 read 5 GET /b
		T1 sample unattributed`,
}

var goStories = map[string]string{
	"goroutines on the same threads": `
		G1 read 5 GET /a
		G4 read 6 GET /b
		G1 sample exact GET /a
		G4 sample exact GET /b
		G4 write 6 200
		G1 write 5 200
		G1 sample unattributed
		decided`,
	"children": `
		G1 read 5 GET /a
		G1 write 5 200
		G1 read 5 GET /b
		G7<1 sample inferred GET /b
		G8<7 sample unattributed
		G7<1 sample inferred GET /b
		G1 write 5 200
		G1 read 5 GET /c
		G9<1 sample inferred GET /c
		G1 write 5 200
		after 2100ms
		G1 sample unattributed
		decided`,
	"children of the first request": `
		G1 read 5 GET /a
		G7<1 sample inferred GET /a
		G1 sample exact GET /a
		G1 write 5 200`,
	"requests that are passed over": `
		G1 read 5 GET /a
		G1 write 5 200
		passed 9
		G1 read 5 GET /b
		G1 sample exact GET /b
		G1 write 5 500
		G1 sample unattributed
		counted GET /a 1
		counted GET /b 10
		passed 4
		G1 close 5
		counted GET /b 14`,
	"background work that a handler started": `
		G1 read 5 GET /a
		G1 write 5 200
		G1 read 5 GET /a
		G7<1 sample unattributed
		G1 write 5 200
		G7<1 sample unattributed
		decided
		G1 read 5 GET /b
		G7<1 sample unattributed
		G8<1 sample inferred GET /b
		G1 write 5 200`,
	"a goroutine waits in epoll for all": `
		G1 read 5 GET /a
		R1 wait
		G1 sample exact GET /a
		G1 write 5 200`,
	"another goroutine answers": `
		G1 read 5 GET /a
		G1 sample unattributed
		G2 write 5 200
		G1 read 5 GET /b
		G1 sample unattributed
		G2 sample inferred GET /b by deferred
		G2 write 5 200`,
}

var loopStories = map[string]string{
	"an event loop that answers in the same turn": `
		L1 wait
		L1 read 5 GET /a
		L1 wait
		L1 write 5 200
		L1 wait
		after 61s
		L1 read 5 GET /a
		L1 sample exact GET /a
		L1 write 5 200
		L1 sample unattributed
		L1 read 6 GET /b
		L1 sample exact GET /b
		L1 write 6 200
		decided
		L1 wait
		L1 sample unattributed`,
	"after the turn it may be anything": `
		L1 wait
		L1 read 5 GET /a
		L1 sample ambiguous
		L1 wait
		decided
		L1 sample ambiguous
		decided
		L1 write 5 200
		L1 sample unattributed`,
	"another request is read before the answer": `
		L1 read 5 GET /a
		L1 wait
		L1 read 6 GET /b
		L1 sample ambiguous
		L1 read 7 GET /c
		L1 sample ambiguous
		L1 wait
		decided`,
	"a timer of a request in the turn of another": `
		L1 read 4 GET /a
		L1 wait
		L1 read 5 GET /b
		L1 sample ambiguous
		L1 write 4 200
		decided
		L1 sample ambiguous
		L1 write 5 200`,
	"an equal request is answered": `
		L1 read 4 GET /a
		L1 wait
		L1 read 5 GET /a
		L1 sample ambiguous
		L1 write 4 200
		L1 write 5 200`,
	"a loop that answers out of the blue is not trusted": `
		L1 read 4 GET /a
		L1 wait
		L1 write 4 200
		L1 read 5 GET /b
		L1 sample ambiguous
		L1 write 5 200
		decided
		L1 wait
		after 61s
		L1 read 5 GET /b
		L1 sample exact GET /b
		L1 write 5 200`,
	"a loop that reads a body nobody reported": `
		L1 read 4 GET /a
		L1 write 4 200
		L1 wait
		L1 read 5 "POST /b HTTP/1.1\r\nContent-Length: 10\r\n\r\n"
		L1 sample ambiguous
		L1 wait
		L1 sample ambiguous
		L1 write 5 200
		L1 wait
		L1 read 4 GET /a
		L1 sample exact GET /a
		L1 write 4 200`,
	"a loop that reads a body": `
		L1 read 4 GET /a
		L1 write 4 200
		L1 wait
		L1 read 5 "POST /b HTTP/1.1\r\nContent-Length: 10\r\n\r\n"
		L1 wait
		L1 read 5 "0123456789"
		L1 sample exact POST /b
		L1 write 5 200
		L1 sample unattributed`,
	"a long turn, and the window ends": `
		L1 read 5 GET /a
		L1 sample ambiguous
		L1 wait
		L1 write 5 200
		after 61s
		L1 read 5 GET /a
		L1 sample ambiguous
		flush
		L1 write 5 200
		L1 read 5 GET /b
		L1 write 5 200
		L1 read 5 GET /b
		L1 write 5 200
		L1 read 5 GET /b
		L1 write 5 200
		L1 read 5 GET /b
		L1 write 5 200
		L1 read 5 GET /b
		L1 write 5 200
		L1 read 5 GET /b
		L1 write 5 200
		L1 read 5 GET /b
		L1 write 5 200
		L1 read 5 GET /b
		L1 sample exact GET /b
		flush
		L1 write 5 200`,
	"a loop by poll(2)": `
		L1 read 5 GET /a
		L1 sample inferred GET /a
		L1 write 5 200
		L1 sample unattributed`,
	"a proxy": `
		L1 read 5 GET /a
		L1 sample inferred GET /a
		L1 write 5 200
		L1 wait
		L1 read 5 GET /a
		L1 sample exact GET /a
		L1 write 105 GET /a
		L1 sample ambiguous
		L1 wait
		L1 read 6 GET /b
		L1 sample inferred GET /b
		L1 write 106 GET /b
		L1 wait
		L1 sample ambiguous
		L1 read 105 200
		L1 sample inferred GET /a
		L1 write 5 200
		L1 wait
		L1 read 106 200
		L1 sample exact GET /b
		L1 write 6 200
		L1 sample unattributed
		decided`,
	"a proxy that reads an answer in parts": `
		L1 wait
		L1 read 5 GET /a
		L1 write 105 GET /a
		L1 wait
		L1 read 6 GET /b
		L1 write 106 GET /b
		L1 wait
		L1 read 106 200
		L1 wait
		watched 106
		L1 read 105 200
		L1 sample ambiguous
		L1 read 106 "more"
		L1 sample inferred GET /b
		L1 read 106 "more"
		L1 sample inferred GET /b
		L1 write 6 200
		L1 read 106 "rest"
		L1 sample ambiguous
		L1 wait
		L1 write 5 200`,
	"a proxy that has to connect first": `
		L1 wait
		L1 read 5 GET /a
		L1 read 6 GET /b
		L1 read 7 GET /b
		L1 wait
		L1 write 106 GET /b
		L1 write 105 GET /a
		L1 wait
		L1 read 105 200
		L1 sample inferred GET /a
		L1 write 5 200
		L1 read 106 200
		L1 sample inferred GET /b
		L1 write 7 200
		L1 sample ambiguous`,
	"a proxy with one request that has to connect first": `
		L1 wait
		L1 read 5 GET /a
		L1 wait
		L1 write 105 GET /rewritten
		L1 wait
		L1 read 105 200
		L1 sample inferred GET /a
		L1 write 5 200
		L1 sample unattributed`,
	"a loop by poll(2) with two requests": `
		L1 read 5 GET /a
		L1 read 6 GET /b
		L1 sample ambiguous
		L1 write 6 200
		L1 sample ambiguous
		L1 write 5 200
		L1 sample unattributed`,
	"a loop that is rarely asynchronous": `
		L1 read 4 GET /a
		L1 wait
		L1 write 4 200
		` + strings.Repeat("L1 read 5 GET /b\nL1 write 5 200\n", 60) + `
		L1 read 5 GET /b
		L1 sample inferred GET /b
		L1 write 5 200`,
	"an upstream answer after which nothing is certain": `
		L1 read 4 GET /a
		L1 wait
		L1 write 4 200
		L1 read 5 GET /b
		L1 sample ambiguous
		L1 write 105 GET /b
		L1 wait
		L1 read 105 200
		L1 sample inferred GET /b
		L1 write 5 200`,
	"an upstream answer to the wrong request": `
		L1 read 5 GET /a
		L1 wait
		L1 read 6 GET /b
		L1 write 106 GET /b
		L1 wait
		L1 read 106 200
		L1 sample ambiguous
		L1 write 5 200
		L1 sample ambiguous
		L1 write 6 200`,
	"an upstream answer of nobody": `
		L1 wait
		L1 write 105 GET /health
		L1 wait
		L1 read 5 GET /a
		L1 sample ambiguous
		L1 read 105 200
		L1 sample ambiguous
		L1 write 5 200`,
}

var handoffStories = map[string]string{
	"a reactor and its workers": `
		L1 read 5 GET /a
		L1 wait
		T2 write 5 200
		L1 read 5 GET /b
		L1 sample unattributed
		L1 read 6 GET /c
		T2 sample inferred GET /b by deferred
		T3 sample inferred GET /c by deferred
		L1 wait
		L1 sample unattributed
		T2 write 5 200
		T2 sample unattributed
		T3 sample inferred GET /c by deferred
		T3 write 6 200`,
	"a worker that never answers": `
		L1 read 5 GET /a
		T2 write 5 200
		T3 sample unattributed
		after 3s
		L1 wait
		decided`,
	"work before the request was read": `
		L1 read 5 GET /a
		T2 write 5 200
		T2 sample unattributed
		L1 read 5 GET /b
		T2 sample inferred GET /b by deferred
		T2 write 5 200`,
	"a process that changes hands claims nothing exact": warm + `
		T1 read 5 GET /a
		T1 sample exact GET /a
		T2 write 5 200
		T1 read 5 GET /b
		T1 sample inferred GET /b by deferred
		T1 write 5 200
		after 61s
		T1 read 5 GET /c
		T1 sample exact GET /c
		T1 write 5 200`,
	"the reader waits for the model, and another answers": `
		T1 read 5 GET /a
		T1 sample unattributed
		T2 write 5 200
		decided`,
	"a socket that goes to another process": `
		1:T1 read 5 GET /a
		2:T1 write 5 200
		1:T1 read 5 GET /b
		1:T1 sample unattributed
		2:T1 sample inferred GET /b by deferred
		2:T1 write 5 200`,
	"work before a worker read something else": `
		L1 read 5 GET /a
		T2 write 5 200
		L1 read 5 GET /b
		T2 sample unattributed
		T2 read 7 GET /c
		T2 sample inferred GET /b by deferred
		T2 write 5 200`,
	"work before a worker waited for events": `
		L1 read 5 GET /a
		T2 write 5 200
		L1 read 5 GET /b
		T2 sample unattributed
		T2 wait
		T2 write 5 200`,
	"a reader that answers some itself": `
		L1 read 5 GET /a
		L1 wait
		T2 write 5 200
		L1 wait
		L1 read 5 GET /missing
		L1 sample inferred GET /missing
		L1 write 5 404
		L1 read 5 GET /a
		L1 sample unattributed
		L1 wait
		decided`,
	"a reader that is not trusted": `
		L1 read 5 GET /a
		L1 wait
		T2 write 5 200
		L1 read 5 GET /a
		L1 wait
		L1 write 5 200
		L1 read 5 GET /missing
		L1 sample unattributed
		L1 write 5 404`,
	"a worker that has an event loop": `
		L1 read 5 GET /a
		T2 wait
		T2 write 5 200
		T2 wait
		L1 read 5 GET /b
		T2 sample unattributed
		T2 write 5 200`,
}
