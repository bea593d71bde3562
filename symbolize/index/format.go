// SPDX-License-Identifier: Apache-2.0

// Package index keeps on disk which frames the addresses of one object have, so that they need not be worked
// out anew: FORMAT.md. It knows nothing of where frames come from.
//
// A Writer makes a file in one pass, with little memory. A Reader looks up addresses with a few reads, and keeps what
// it has read in a Cache that readers share. Dir keeps such files in a directory within a number of bytes.
//
// The files are the agent's own. All the same every piece has a checksum, and whatever a file holds, a lookup ends
// and takes bounded memory: a file that is damaged is an error, ErrCorrupt.
package index

import (
	"errors"
	"hash/crc32"
)

var (
	// ErrCorrupt reports a file that is not what was written, or that of another key.
	ErrCorrupt = errors.New("index is damaged")
	// ErrNotIndexed reports an address of which the index leaves it to others to know something.
	ErrNotIndexed = errors.New("address is not indexed")
	// ErrTooLarge reports an index that would take more than it may, or frames that no index can hold.
	ErrTooLarge = errors.New("index is too large")
)

// Key tells indexes apart: a hash of all that the frames depend on.
type Key [32]byte

const (
	magic      = "fpnames1"
	headerSize = len(magic) + len(Key{})
	footerSize = 4 + 8 + 8 + len(magic) + sumSize
	sumSize    = 4

	entrySize   = 20 // of the directory
	pageEntries = 128
	// pageSize is that of a whole page of the directory, in bytes.
	pageSize = pageEntries*entrySize + sumSize
	// maxPages bounds the pages of a directory, and so what a writer and a reader keep of it.
	maxPages = 1 << 10

	// maxBlock bounds a block, in bytes; most have less than 8 KiB.
	maxBlock = 1 << 18
	// maxFrames bounds the frames of one address, and maxString a string, in bytes. What has more is not indexed.
	maxFrames = 1 << 11
	maxString = 1 << 14

	blockHeader  = 6
	columns      = 10
	columnHeader = 5

	// Values of a row's scope that are no scope.
	nothing    = 0
	notIndexed = 1
	firstScope = 2
)

// Columns of a block, in their order.
const (
	rowAddress = iota
	rowScope
	rowFile
	rowLine
	scopeParent
	scopeFunction
	scopeSystem
	scopeFile
	scopeLine
	stringOffset
)

var table = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) uint32 { return crc32.Checksum(b, table) }
