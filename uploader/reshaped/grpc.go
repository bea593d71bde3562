// SPDX-License-Identifier: Apache-2.0

package reshaped

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/uploader"
)

const (
	// Timeout bounds one request, its answer included. Pyroscope answers when a profile is in its
	// object storage, half a second later as a rule.
	Timeout = 20 * time.Second
	// MaxAnswer bounds what is read of an answer, in bytes.
	MaxAnswer = 1 << 20
)

// GRPC is a client of one procedure, such as /parca.….ProfileStoreService/WriteRaw.
func GRPC[Request, Response any](to *endpoint.Endpoint, procedure string, options ...connect.ClientOption) *connect.Client[Request, Response] {
	return newClient[Request, Response](to, Timeout, procedure, options)
}

// Stream is one of a procedure that is sent a stream; it takes as long as the context of a call lasts.
func Stream[Request, Response any](to *endpoint.Endpoint, procedure string, options ...connect.ClientOption) *connect.Client[Request, Response] {
	return newClient[Request, Response](to, 0, procedure, options)
}

func newClient[Request, Response any](to *endpoint.Endpoint, timeout time.Duration, procedure string, options []connect.ClientOption) *connect.Client[Request, Response] {
	client, _ := to.Client()
	client.Timeout = timeout
	client.Transport = plainAnswers{client.Transport}
	options = append(options, connect.WithGRPC(), connect.WithReadMaxBytes(MaxAnswer))
	return connect.NewClient[Request, Response](client, to.URL().JoinPath(procedure).String(), options...)
}

// plainAnswers turns answers that are none of gRPC into errors: a proxy has answered, or
// a server that limits rates, and says in the header when to come again.
type plainAnswers struct{ http.RoundTripper }

// RoundTrip sends a request.
func (p plainAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.RoundTripper.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer)) // what is there will do
	return nil, uploader.Refusal(resp.StatusCode, resp.Header, text)
}

// CallError is the error of Send that one of a call means: Permanent after the given codes, if the
// server itself has answered with one, and Retry where it says when to come again.
func CallError(err error, permanent ...connect.Code) error {
	var refusal uploader.Permanent
	var retry uploader.Retry
	var answer *connect.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &retry):
		return retry
	case !errors.As(err, &answer):
		return err
	case !connect.IsWireError(err):
		return endpoint.Redacted(err)
	case slices.Contains(permanent, answer.Code()):
		return uploader.Permanent{Err: err, Reason: answer.Code().String()}
	}
	if after, ok := comeAgain(answer); ok {
		return uploader.Retry{Err: err, After: after}
	}
	return err
}

// Throttled reports whether the server has said when to come again.
func Throttled(err error) bool {
	var answer *connect.Error
	if !errors.As(err, &answer) {
		return false
	}
	_, ok := comeAgain(answer)
	return ok
}

// retryInfo is the type of the detail in which gRPC says when to come again:
// https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
const retryInfo = "google.rpc.RetryInfo"

// comeAgain is after which time a server wants to be asked again: by a RetryInfo, or the header
// that HTTP has for it.
func comeAgain(answer *connect.Error) (time.Duration, bool) {
	for _, d := range answer.Details() {
		if d.Type() == retryInfo {
			return delay(d.Bytes())
		}
	}
	return uploader.RetryAfter(answer.Meta(), time.Now())
}

// delay reads the only field of a RetryInfo.
func delay(b []byte) (time.Duration, bool) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 || number != 1 || kind != protowire.BytesType {
		return 0, len(b) == 0 // at once
	}
	content, n := protowire.ConsumeBytes(b[n:])
	var d durationpb.Duration
	if n < 0 || proto.Unmarshal(content, &d) != nil || d.CheckValid() != nil {
		return 0, false
	}
	return max(0, d.AsDuration()), true
}
