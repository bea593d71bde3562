// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// reasonBytes bounds how much of an answer goes into an error.
const reasonBytes = 512

// Refusal is the error of Send that an HTTP answer other than 2xx means, with the beginning of its
// text. After 400, 413 and 422 it is Permanent, and Retry where there is a Retry-After. Credentials
// may be mended and an address may be a wrong one, so everything else is sent again.
func Refusal(status int, header http.Header, text []byte) error {
	err := fmt.Errorf("%d %s: %q", status, http.StatusText(status), bytes.TrimSpace(text[:min(len(text), reasonBytes)]))
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return Permanent{Err: err, Reason: strconv.Itoa(status)}
	}
	if after, ok := RetryAfter(header, time.Now()); ok {
		return Retry{Err: err, After: after}
	}
	return err
}

// RetryAfter reads the header of that name, seconds or a date:
// RFC 9110, section 10.2.3.
func RetryAfter(header http.Header, now time.Time) (time.Duration, bool) {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(value)
	return max(0, date.Sub(now)), err == nil
}
