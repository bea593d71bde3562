// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

var errNoDWARF = errors.New("no DWARF")

const (
	// maxDWARF bounds each section that is read, in bytes after decompression.
	// It is kept during the call only.
	maxDWARF = 64 << 20
	// maxEntries bounds how many entries of DWARF are looked at.
	maxEntries = 8 << 20
	// typesUnit is the compilation unit that the Go linker puts all types in.
	typesUnit = "runtime"
)

// types are the fields of some structs: the struct's name, the field's name and
// its offset in bytes.
type types map[string]map[string]int64

const (
	grpcStream       = "google.golang.org/grpc/internal/transport.Stream"
	grpcServerStream = "google.golang.org/grpc/internal/transport.ServerStream"
	curReq           = "sync/atomic.Pointer[net/http.response]"
	pprofLabels      = "runtime/pprof.labelMap"           // a struct since Go 1.24
	labelSet         = "internal/runtime/pprof/label.Set" // since Go 1.26
)

func wantedType(name string) bool {
	switch name {
	case "runtime.g", "runtime.m", "runtime.stack", "runtime.gobuf",
		pprofLabels, "runtime/pprof.LabelSet", labelSet,
		"net/http.conn", "net/http.response", "net/http.Request", "net/url.URL",
		"net/http.http2responseWriter", "net/http.http2responseWriterState",
		"golang.org/x/net/http2.responseWriter", "golang.org/x/net/http2.responseWriterState",
		"sync/atomic.Bool", curReq, grpcStream, grpcServerStream:
		return true
	}
	return false
}

// readTypes reads the wanted types. Sections that are not needed for them, such as
// lines and places of variables, are not read.
func readTypes(f *objfile.File) (types, error) {
	file, err := elf.NewFile(f.Reader(objfile.Section{Size: math.MaxInt64}))
	if err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	sections := map[string][]byte{}
	for _, name := range [...]string{"info", "abbrev", "str", "str_offsets", "addr", "line_str"} {
		if sections[name], err = dwarfSection(file, name); err != nil {
			return nil, fmt.Errorf("read DWARF: %w", err)
		}
	}
	if len(sections["info"]) == 0 {
		return nil, errNoDWARF
	}
	d, err := dwarf.New(sections["abbrev"], nil, nil, sections["info"], nil, nil, nil, sections["str"])
	if err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	for _, name := range [...]string{"str_offsets", "addr", "line_str"} {
		if err := d.AddSection(".debug_"+name, sections[name]); err != nil {
			return nil, fmt.Errorf("read DWARF: %w", err)
		}
	}
	found := types{}
	for _, root := range unitsNamed(d, sections["info"], typesUnit) {
		if err := found.read(d, root); err != nil {
			return nil, fmt.Errorf("read DWARF: %w", err)
		}
	}
	return found, nil
}

func dwarfSection(file *elf.File, name string) ([]byte, error) {
	s := file.Section(".debug_" + name)
	if s == nil {
		return nil, nil
	}
	if s.Size > maxDWARF {
		return nil, fmt.Errorf("section %s of %d bytes", s.Name, s.Size)
	}
	return io.ReadAll(io.LimitReader(s.Open(), maxDWARF))
}

// unitsNamed finds the root entries of compilation units by their headers: length,
// version, (type, size of addresses) and offset of abbreviations. Code in assembly
// has a unit of its own.
func unitsNamed(d *dwarf.Data, info []byte, name string) (roots []dwarf.Offset) {
	for off := uint64(0); off+12 <= uint64(len(info)); {
		length := uint64(binary.LittleEndian.Uint32(info[off:]))
		if length < 8 || length >= 0xfffffff0 { // 64-bit DWARF, which Go does not make
			break
		}
		root := dwarf.Offset(off + 11)
		if binary.LittleEndian.Uint16(info[off+4:]) >= 5 {
			root++
		}
		r := d.Reader()
		r.Seek(root)
		e, err := r.Next()
		if err != nil || e == nil {
			break
		}
		if n, _ := e.Val(dwarf.AttrName).(string); n == name && e.Tag == dwarf.TagCompileUnit && e.Children {
			roots = append(roots, root)
		}
		off += 4 + length
	}
	return roots
}

// read reads the wanted structs of a compilation unit.
func (t types) read(d *dwarf.Data, root dwarf.Offset) error {
	r := d.Reader()
	r.Seek(root)
	if _, err := r.Next(); err != nil {
		return err
	}
	var fields map[string]int64 // of the struct that the reader is in
	for depth, n := 1, 0; depth > 0; n++ {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil || n == maxEntries {
			break
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		switch {
		case e.Tag == 0:
			depth, fields = depth-1, nil
			continue
		case e.Tag == dwarf.TagMember && fields != nil:
			if off, ok := e.Val(dwarf.AttrDataMemberLoc).(int64); ok {
				fields[name] = off
			}
		case e.Tag == dwarf.TagStructType && e.Children && wantedType(name):
			fields = map[string]int64{}
			t[name] = fields
		}
		if e.Children {
			depth++
		}
	}
	return nil
}

// field is the offset of a field, Absent if it is not there.
func (t types) field(of, name string) int64 {
	if off, ok := t[of][name]; ok && off >= 0 && off < math.MaxInt32 {
		return off
	}
	return Absent
}

// within is a field of a struct that is itself a field.
func (t types) within(of, name, inner, field string) int64 {
	a, b := t.field(of, name), t.field(inner, field)
	if a == Absent || b == Absent {
		return Absent
	}
	return a + b
}

// labelList is where pprof labels have their slice.
func (t types) labelList() int64 {
	if off := t.within(pprofLabels, "Set", labelSet, "List"); off != Absent {
		return off
	}
	return t.within(pprofLabels, "LabelSet", "runtime/pprof.LabelSet", "list")
}

// offsets are those that the types give. What the runtime has no name for is an
// error; servers that are not in the program have no chain.
func (t types) offsets() (*offsets, error) {
	const g, m = "runtime.g", "runtime.m"
	o := &offsets{
		Runtime: Runtime{
			GStackLo: t.within(g, "stack", "runtime.stack", "lo"), GStackHi: t.within(g, "stack", "runtime.stack", "hi"),
			GM: t.field(g, "m"), GSchedSP: t.within(g, "sched", "runtime.gobuf", "sp"),
			GGoid: t.field(g, "goid"), GParentGoid: t.field(g, "parentGoid"),
			GStartPC: t.field(g, "startpc"), GLabels: t.field(g, "labels"),
			MG0: t.field(m, "g0"), MCurg: t.field(m, "curg"), MVDSOSP: Absent, // see checkRuntime
			LabelList: t.labelList(),
		},
		HTTP: HTTP{
			RequestMethod: t.field("net/http.Request", "Method"), RequestURL: t.field("net/http.Request", "URL"),
			RequestPattern: t.field("net/http.Request", "Pattern"), URLPath: t.field("net/url.URL", "Path"),
		},
		GRPC: t.grpc(),
	}
	for _, off := range [...]int64{
		o.GStackLo, o.GStackHi, o.GM, o.GSchedSP, o.GGoid, o.GStartPC, o.GLabels, o.MG0, o.MCurg,
	} {
		if off == Absent {
			return nil, errors.New("the DWARF has no runtime.g and runtime.m as they are known")
		}
	}
	if t.field(g, "atomicstatus") != o.GGoid-8 {
		return nil, errors.New("the status of a goroutine does not stand before its number")
	}
	if o.RequestMethod == Absent || o.RequestURL == Absent || o.URLPath == Absent {
		return o, nil
	}
	const response, conn = "net/http.response", "net/http.conn"
	o.HTTP1 = known(Chain{
		State: t.within(conn, "curReq", curReq, "v"), Owner: t.field(response, "conn"),
		Done: t.within(response, "handlerDone", "sync/atomic.Bool", "v"), Request: t.field(response, "req"),
	})
	for _, prefix := range [...]string{"net/http.http2", "golang.org/x/net/http2."} {
		if o.HTTP2 == nil {
			writer := prefix + "responseWriter"
			o.HTTP2 = known(Chain{
				State: t.field(writer, "rws"), Owner: t.field(writer+"State", "conn"),
				Done: t.field(writer+"State", "handlerDone"), Request: t.field(writer+"State", "req"),
			})
		}
	}
	return o, nil
}

// known is a chain to an HTTP request, nil if a link is missing.
func known(c Chain) *Chain {
	if c.State == Absent || c.Owner == Absent || c.Done == Absent || c.Request == Absent {
		return nil
	}
	c.Method = Absent
	return &c
}

// grpc is the chain of gRPC: up to version 1.68 the transport stands in Stream,
// later in ServerStream, which has Stream as a pointer or in itself.
func (t types) grpc() *Chain {
	c := Chain{
		State: Absent, Owner: t.field(grpcServerStream, "st"), Done: Absent, Request: Absent,
		Method: t.field(grpcStream, "method"),
	}
	if c.Method == Absent {
		return nil
	}
	if c.Owner == Absent {
		c.Owner = t.field(grpcStream, "st")
	} else if embedded := t.field(grpcServerStream, "Stream"); c.Owner >= embedded+16 {
		c.Method += embedded
	} else {
		c.Request = embedded
	}
	if c.Owner == Absent {
		return nil
	}
	c.Owner += 8 // the pointer in an interface
	return &c
}
