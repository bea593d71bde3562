// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/gzip"

	"github.com/fleetprof/fleetprof/sample"
)

// Exemplars makes the document that lies beside the profile of a window, oldest
// request first; nil if there are none. It labels them with the host.
func (e Encoding) Exemplars(w *Window, all []sample.Exemplar) ([]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	slices.SortFunc(all, func(a, b sample.Exemplar) int { return a.Start.Compare(b.Start) })
	for i := range all {
		all[i].Labels[sample.LabelHost] = validUTF8(e.Host)
	}
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzipLevel)
	if err == nil {
		document := sample.Exemplars{Start: w.start, Duration: w.end.Sub(w.start), Exemplars: all}
		err = errors.Join(json.NewEncoder(zip).Encode(document), zip.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("encode exemplars: %w", err)
	}
	return out.Bytes(), nil
}
