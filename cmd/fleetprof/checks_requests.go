// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"reflect"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
)

// checkRequests attaches, for a moment, all that tells which request a sample served.
func checkRequests() []finding {
	const check = "requests"
	sampler, err := bpf.Load(bpf.Options{RingBytes: 64 << 10, TableBlocks: 1, CgroupSubsystem: bpf.CgroupV2})
	if err != nil {
		return []finding{lacking(check, err, "no sample says which request it served")}
	}
	defer sampler.Close()
	r, err := bpf.LoadRequests(sampler, bpf.RequestOptions{RingBytes: 64 << 10})
	if err != nil {
		return []finding{lacking(check, err, "no sample says which request it served")}
	}
	defer r.Close()
	return []finding{checkSockets(check, r), checkTurns(r), checkProbes(r)}
}

// lacking is a finding that something is missing in the profiles, and what.
func lacking(check string, err error, what string) finding {
	f := failure(check, statusDegraded, err, "")
	f.Detail += "; " + what
	return f
}

func checkSockets(check string, r *bpf.Requests) finding {
	if err := r.Attach(); err != nil {
		return lacking(check, err, "requests are not seen: say --no-requests until they are")
	}
	detail := "seen by the tracepoints of sockets"
	if !r.Direct() {
		detail = "seen by tracepoints of system calls, each of which costs some 15 ns more; Linux 6.3 has those of sockets"
	}
	return finding{Check: check, Status: statusOK, Detail: detail}
}

func checkTurns(r *bpf.Requests) finding {
	const check = "event loops, Unix sockets"
	if err := errors.Join(r.AttachTurns(), r.AttachCloses()); err != nil {
		return lacking(check, err, "samples of event loops are ambiguous more often, those of threads that serve on Unix sockets unattributed")
	}
	return finding{Check: check, Status: statusOK, Detail: "turns and closes can be traced once there are any"}
}

// checkProbes puts a probe into this very program, where nothing runs meanwhile.
func checkProbes(r *bpf.Requests) finding {
	const check, what = "probes (uprobes)", "goroutines started by handlers of HTTP/2 and gRPC are unattributed"
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return lacking(check, err, what)
	}
	defer program.Close()
	offset, err := offsetOf(uint64(reflect.ValueOf(showJSON).Pointer()))
	if err != nil {
		return lacking(check, err, what)
	}
	probe, err := r.Probe(program, offset)
	if err != nil {
		return lacking(check, err, what)
	}
	if err := probe.Close(); err != nil {
		return lacking(check, err, what)
	}
	return finding{Check: check, Status: statusOK, Detail: "programs in Go can be probed"}
}

// offsetOf is where code of this program lies in its file.
func offsetOf(address uint64) (offset uint64, err error) {
	err = errors.New("find own code in /proc/self/maps")
	walked := procfs.New("/proc").ExecutableMaps(procfs.Self, func(m procfs.Mapping) bool {
		if address < m.Start || address >= m.Limit {
			return true
		}
		offset, err = address-m.Start+m.Offset, nil
		return false
	})
	return offset, errors.Join(walked, err)
}
