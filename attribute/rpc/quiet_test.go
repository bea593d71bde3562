// SPDX-License-Identifier: Apache-2.0

package rpc

// restful makes process 1 one with an event loop that was without requests for 10 s.
const restful = `
	L1 read 5 GET /a
	L1 wait
	L1 write 5 200
	L1 wait
	after 10s
`

var quietStories = map[string]string{
	"a loop that does nothing else": restful + `
		L1 read 5 GET /a
		L1 sample inferred GET /a
		L1 wait
		decided
		L1 sample inferred GET /a
		decided
		L1 write 5 200
		L1 sample unattributed
		after 1s
		L1 read 6 GET /b
		L1 wait
		L1 sample ambiguous
		L1 write 6 200
		L1 close 6
		L1 wait
		after 10s
		L1 read 7 GET /c
		L1 wait
		L1 sample inferred GET /c
		lost
		L1 read 8 GET /d
		L1 wait
		L1 sample ambiguous`,
	"a loop that was idle for too short": `
		L1 read 5 GET /a
		L1 wait
		L1 write 5 200
		L1 wait
		after 2900ms
		L1 read 5 GET /a
		L1 wait
		L1 sample ambiguous`,
	"a loop that works without a request": restful + `
		L1 sample unattributed
		L1 sample unattributed
		L1 read 5 GET /a
		L1 wait
		L1 sample ambiguous`,
	"a loop that works once without a request": restful + `
		L1 sample unattributed
		L1 read 5 GET /a
		L1 sample ambiguous
		L1 wait
		L1 sample ambiguous`,
	"a tick without an executor is work too": restful + `
		U1 sample unattributed
		after 1s
		L1 read 5 GET /a
		L1 wait
		L1 sample ambiguous`,
	"a request that mostly waits": restful + `
		L1 read 5 GET /a
		L1 wait
		after 5s
		L1 sample ambiguous
		L1 write 5 200`,
	"a quiet loop with two requests": restful + `
		L1 read 5 GET /a
		L1 read 6 GET /b
		L1 wait
		L1 sample ambiguous
		L1 write 6 200
		L1 sample ambiguous
		L1 write 5 200`,
	"a quiet loop that may still be writing": restful + `
		L1 read 5 GET /a
		L1 write 5 200
		L1 wait
		L1 read 6 GET /b
		L1 wait
		L1 sample ambiguous
		L1 write 6 200`,
	"a quiet loop that was not seen idle for long": restful + `
		L1 read 5 GET /a
		L1 wait
		after 61s
		L1 sample ambiguous`,
}
