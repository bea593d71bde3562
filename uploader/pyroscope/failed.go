// SPDX-License-Identifier: Apache-2.0

package pyroscope

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ofSeries is how Pyroscope begins to say what is wrong with one series. It stores the others, see
// https://github.com/grafana/pyroscope/blob/v1.15.0/pkg/distributor/distributor.go
var ofSeries = regexp.MustCompile(`push series with index (\d+) (and \S+ \S* )?failed: `)

// failedSeries gives the indexes that an error names, of so many. alike reports whether it says the same
// of all of them, but for their labels and numbers.
func failedSeries(answer []byte, series int) (failed []int, alike bool) {
	var body struct{ Message string } // an error of the Connect protocol
	if json.Unmarshal(answer, &body) != nil {
		return nil, false
	}
	matches := ofSeries.FindAllStringSubmatchIndex(body.Message, -1)
	alike = true
	first := ""
	for n, m := range matches {
		i, err := strconv.Atoi(body.Message[m[2]:m[3]])
		if err != nil || i >= series {
			continue
		}
		end := len(body.Message)
		if n+1 < len(matches) {
			end = matches[n+1][0]
		}
		reason := general(body.Message[m[1]:end])
		if len(failed) == 0 {
			first = reason
		}
		failed, alike = append(failed, i), alike && reason == first
	}
	slices.Sort(failed)
	return slices.Compact(failed), alike
}

// general is what an error says without the labels in braces and the numbers.
func general(reason string) string {
	if begin, end := strings.IndexByte(reason, '{'), strings.LastIndexByte(reason, '}'); begin >= 0 && begin < end {
		reason = reason[:begin] + reason[end:]
	}
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return -1
		}
		return c
	}, strings.Trim(reason, "; \n"))
}
