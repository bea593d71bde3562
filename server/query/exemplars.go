// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/exemplars"
	"github.com/fleetprof/fleetprof/server/store"
)

// Bounds of the parameter limit of exemplars.
const (
	defaultExemplars = 1_000
	maxExemplars     = 10_000
)

// exemplarsAnswer is the answer to a query for exemplars.
type exemplarsAnswer struct {
	// Data is the newest first.
	Data []sample.Exemplar
	// More says that there are older ones, beyond the limit.
	More bool
	// Skipped is how many stored documents could not be read.
	Skipped int
}

// exemplars answers with requests that carried trace ids, of the windows that overlap
// the range, at most limit of them. The selector sees the labels of exemplars:
// host_name, service_name, and those that name the handler.
func (a *API) exemplars(r *http.Request, out *answer) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	limit, err := parseNumber(r.URL.Query(), "limit", defaultExemplars, maxExemplars)
	if err != nil {
		return err
	}
	found, err := a.findExemplars(r.Context(), q, limit)
	if err != nil {
		return err
	}
	o := out.object()
	o.field("status", "success")
	array(o, "data", found.Data)
	o.field("more", found.More)
	o.field("skipped", found.Skipped)
	return o.end()
}

// findExemplars looks through the newest windows until there are enough.
func (a *API) findExemplars(ctx context.Context, q request, limit int) (found exemplarsAnswer, err error) {
	claim, bytes := claimOf(ctx), int64(0)
	for _, e := range slices.Backward(a.store.SelectExemplars(q.span.From, q.span.To)) {
		if len(found.Data) >= limit {
			found.More = true
			break
		}
		if err := ctx.Err(); err != nil {
			return found, a.orTooLong(err)
		}
		d, ok := a.readExemplars(e)
		if !ok {
			found.Skipped++
		}
		for _, one := range d.Exemplars {
			if q.selector.Matches(func(name string) string { return one.Labels[name] }) {
				found.Data = append(found.Data, one)
				bytes += exemplarBytes(one)
			}
		}
		if err := claim.hold(bytes); err != nil {
			return found, err
		}
	}
	slices.SortStableFunc(found.Data, func(a, b sample.Exemplar) int { return b.Start.Compare(a.Start) })
	if len(found.Data) > limit {
		found.Data, found.More = found.Data[:limit], true
	}
	return found, nil
}

// exemplarBytes is about how much memory an exemplar takes.
func exemplarBytes(e sample.Exemplar) int64 {
	n := int64(200) // without labels
	for name, value := range e.Labels {
		n += int64(len(name)+len(value)) + 2*16 + mapOverhead
	}
	return n
}

// readExemplars reads one document. It is not ok if that should be there and is not.
func (a *API) readExemplars(e store.Entry) (d sample.Exemplars, ok bool) {
	gz, err := a.store.Read(e)
	if errors.Is(err, fs.ErrNotExist) {
		return d, true // grew too old since it was selected
	}
	if err != nil {
		a.metrics.readErrors.Inc()
		return d, false
	}
	if d, err = exemplars.Decode(gz); err != nil {
		a.store.Damaged(e, err)
		return sample.Exemplars{}, false
	}
	return d, true
}
