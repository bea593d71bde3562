// SPDX-License-Identifier: Apache-2.0

package profiler

import "slices"

const (
	// maxOpened bounds the files that are open because they wait for their table.
	maxOpened = 64
	// maxPassed is how often smaller files go before a file that has waited longest.
	maxPassed = 64
)

// tableQueue holds the objects whose tables are to be built next, with their files.
// Until a table is there all ticks of its processes are late, so a small file, which
// takes a millisecond, does not wait for a large one, which may take a second.
type tableQueue []*queuedTable

// queuedTable is an object that waits, or the error that opening it ended with.
type queuedTable struct {
	built
	file   *image
	passed int
}

// size is the file's, in bytes.
func (q *queuedTable) size() int64 {
	if q.file == nil {
		return 0
	}
	return q.file.size
}

// next takes the smallest out, or the one that waits for longest if it was passed over
// often enough. There must be one.
func (q *tableQueue) next() *queuedTable {
	at := 0
	if oldest := (*q)[0]; oldest.passed < maxPassed {
		for i, w := range *q {
			if w.size() < (*q)[at].size() {
				at = i
			}
		}
		oldest.passed++
	}
	w := (*q)[at]
	*q = slices.Delete(*q, at, at+1)
	return w
}

// close closes the files of all.
func (q *tableQueue) close() {
	for _, w := range *q {
		if w.file != nil {
			w.file.Close()
		}
	}
	*q = nil
}
