// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/goruntime"
)

// layoutOf puts the layout of a Go program in the terms of the kernel side, but for
// its generation.
func layoutOf(l *goruntime.Layout) *bpf.Layout {
	out := &bpf.Layout{
		Tls:            l.TLS,
		M:              int32(l.GM),
		Goid:           int32(l.GGoid),
		Parent:         int32(l.GParentGoid),
		StartPc:        int32(l.GStartPC),
		StackLo:        int32(l.GStackLo),
		StackHi:        int32(l.GStackHi),
		SchedSp:        int32(l.GSchedSP),
		Curg:           int32(l.MCurg),
		VdsoSp:         int32(l.MVDSOSP),
		RequestMethod:  int32(l.RequestMethod),
		RequestUrl:     int32(l.RequestURL),
		RequestPattern: int32(l.RequestPattern),
		UrlPath:        int32(l.URLPath),
		Labels:         int32(l.GLabels),
		LabelList:      int32(l.LabelList),
	}
	for i, s := range l.Served[:min(len(l.Served), len(out.Served))] {
		kind := bpf.RequestHTTP
		if s.Kind == goruntime.GRPC {
			kind = bpf.RequestGRPC
		}
		to := &out.Served[i]
		to.StartPc = s.StartPC
		to.Kind = int32(kind)
		to.Slot, to.OwnerSlot, to.Depth = int32(s.Slot), int32(s.OwnerSlot), int32(s.Depth)
		to.State, to.Owner, to.Done = int32(s.State), int32(s.Owner), int32(s.Done)
		to.Request, to.Method = int32(s.Request), int32(s.Method)
	}
	return out
}
