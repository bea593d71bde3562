// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"

	"connectrpc.com/connect"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/wire"
)

var (
	errInvalid = errors.New("profile refused")
	errCutOff  = errors.New("read request")
	errBusy    = errors.New("the server is busy with other profiles: send this one again")
	errSession = errors.New("begin a new session")
)

// refusal is how an error is answered: in plain HTTP, and by a remote procedure.
type refusal struct {
	status int
	code   connect.Code
	result string
	retry  bool // the client is told after which time to come again
}

// refusalOf says how. What can be sent again is Unavailable to remote procedures:
// that is the one code after which clients of Pyroscope, Parca and OpenTelemetry all
// do. ResourceExhausted is final for those of OpenTelemetry.
func refusalOf(err error) refusal {
	var tooLarge *columns.TooLargeError
	var tooLong *http.MaxBytesError
	switch {
	case errors.Is(err, errSession):
		return refusal{http.StatusConflict, connect.CodeFailedPrecondition, resultSession, false}
	case errors.As(err, &tooLarge), errors.As(err, &tooLong), errors.Is(err, wire.ErrTooLarge):
		return refusal{http.StatusRequestEntityTooLarge, connect.CodeInvalidArgument, resultTooLarge, false}
	case errors.Is(err, errInvalid), errors.Is(err, store.ErrRefused):
		return refusal{http.StatusBadRequest, connect.CodeInvalidArgument, resultInvalid, false}
	case errors.Is(err, errBusy):
		return refusal{http.StatusServiceUnavailable, connect.CodeUnavailable, resultBusy, true}
	case errors.Is(err, store.ErrClosed):
		return refusal{http.StatusServiceUnavailable, connect.CodeUnavailable, resultClosing, true}
	case errors.Is(err, store.ErrFull):
		return refusal{http.StatusInsufficientStorage, connect.CodeUnavailable, resultFull, true}
	case errors.Is(err, errCutOff), errors.Is(err, context.Canceled):
		return refusal{http.StatusRequestTimeout, connect.CodeUnavailable, resultCutOff, false}
	}
	return refusal{http.StatusInternalServerError, connect.CodeUnavailable, resultFailed, true}
}

// retryAfter is in seconds. It differs, so that those who were sent away together do
// not come back together.
func retryAfter() string { return strconv.Itoa(1 + rand.IntN(5)) }
