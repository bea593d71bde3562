// SPDX-License-Identifier: Apache-2.0

package block

// seriesWriter writes the rows of one series after the other, and their sums.
type seriesWriter struct {
	rows *rowWriter[rowRecord]
	sums *rowWriter[sumRecord]
}

// write writes rows, which are sorted, and if summed their sums over all windows.
func (w seriesWriter) write(labels uint32, rows []sum, summed bool) error {
	for _, r := range rows {
		if err := w.rows.write(rowRecord{labels, r.stack(), uint32(r.key), r.value, r.count, r.process}); err != nil {
			return err
		}
	}
	if !summed {
		return nil
	}
	for first := 0; first < len(rows); {
		total, end := rows[first], first+1
		for ; end < len(rows) && rows[end].sameStack(total); end++ {
			total.add(rows[end])
		}
		if err := w.sums.write(sumRecord{labels, total.stack(), total.value, total.count, total.process}); err != nil {
			return err
		}
		first = end
	}
	return nil
}

// countSums tells how many sums rows have, which are sorted.
func countSums(rows []sum) (n int) {
	for i, r := range rows {
		if i == 0 || !r.sameStack(rows[i-1]) {
			n++
		}
	}
	return n
}

// sum is a row; the key is its stack and its window.
type sum struct {
	key          uint64
	value, count int64
	process      uint32
}

func (s *sum) stack() uint32 { return uint32(s.key >> 32) }

// sameStack reports whether the two are of one process too.
func (s *sum) sameStack(other sum) bool {
	return s.stack() == other.stack() && s.process == other.process
}

func (s *sum) add(other sum) {
	s.value, s.count = addSaturated(s.value, other.value), addSaturated(s.count, other.count)
}
