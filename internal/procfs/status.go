// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"io"
)

// maxStatus bounds the lines of /proc/PID/status, of which there are some sixty.
const maxStatus = 1000

// Status is what /proc/PID/status tells of a process.
type Status struct {
	PID uint32
	// InnerPID is the number of the process in its own PID namespace.
	InnerPID uint32
	// UIDs are its real, effective, saved and file system user ids, as our user namespace has
	// them.
	UIDs [4]uint32
}

// Status reads /proc/PID/status; that of a thread tells of its process.
func (f FS) Status(pid uint32) (Status, error) {
	var r lineReader
	if err := r.open(f.Path(pid, "status"), maxStatus); err != nil {
		return Status{}, fmt.Errorf("open status of process %d: %w", pid, err)
	}
	defer r.close()
	var st Status
	for {
		line, _, err := r.next()
		if err == io.EOF {
			return Status{}, fmt.Errorf("parse status of process %d: no NStgid", pid)
		}
		if err != nil {
			return Status{}, fmt.Errorf("read status of process %d: %w", pid, err)
		}
		ok := true
		if number, is := bytes.CutPrefix(line, []byte("Tgid:\t")); is {
			s := scanner{line: number}
			st.PID = uint32(s.decimal('\t'))
			ok = !s.bad
		}
		if uids, is := bytes.CutPrefix(line, []byte("Uid:\t")); is {
			s := scanner{line: uids}
			for i := range st.UIDs {
				st.UIDs[i] = uint32(s.decimal('\t'))
			}
			ok = !s.bad
		}
		if numbers, is := bytes.CutPrefix(line, []byte("NStgid:\t")); is { // it stands behind the others
			s := scanner{line: numbers[bytes.LastIndexByte(numbers, '\t')+1:]}
			st.InnerPID = uint32(s.decimal('\t'))
			if !s.bad {
				return st, nil
			}
			ok = false
		}
		if !ok {
			return Status{}, fmt.Errorf("parse status of process %d: bad line %.80q", pid, string(line))
		}
	}
}
