// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Plain answers in plain HTTP, with a Retry-After if there is one.
func Plain(status int, retryAfter string) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, "the reason", status)
		return true
	}
}

// GRPC answers as a server of gRPC, with a RetryInfo unless retry is negative.
func GRPC(code int, retry time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(code))
		w.Header().Set("Grpc-Message", "the reason")
		if retry >= 0 {
			w.Header().Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(withRetryInfo(code, retry)))
		}
		return true
	}
}

// withRetryInfo is a google.rpc.Status with a google.rpc.RetryInfo.
func withRetryInfo(code int, retry time.Duration) []byte {
	field := func(to []byte, n protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(to, n, protowire.BytesType), content)
	}
	number := func(to []byte, n protowire.Number, v int64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(to, n, protowire.VarintType), uint64(v))
	}
	duration := number(number(nil, 1, int64(retry/time.Second)), 2, int64(retry%time.Second))
	detail := field(field(nil, 1, []byte("type.googleapis.com/google.rpc.RetryInfo")), 2, field(nil, 1, duration))
	return field(field(number(nil, 1, int64(code)), 2, []byte("the reason")), 3, detail)
}

// Cut ends the connection in the middle of the request.
func Cut(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// Hang answers when the client has gone.
func Hang(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not seen
	<-r.Context().Done()
	return true
}

// After lets so many requests through, and has the others meet a fault.
func After(n int64, f Fault) Fault {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) bool { return seen.Add(1) > n && f(w, r) }
}

// First has so many requests meet a fault, and lets the others through.
func First(n int64, f Fault) Fault {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) bool { return seen.Add(1) <= n && f(w, r) }
}
