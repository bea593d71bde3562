// SPDX-License-Identifier: Apache-2.0

// Package http2 decodes HTTP/2 connections (RFC 9113) that it only watches: it
// is fed with the bytes that one of the two programs reads and writes, and tells
// of the requests on them. It never sees all: captures are short, calls are
// missed, connections were open before anyone looked. What is not known is
// reported as Unknown, and never guessed.
//
// # Header compression with a gap
//
// Header blocks refer to entries of a table that grows with every block (HPACK,
// RFC 7541). After bytes of a direction were missed nobody can tell what its
// table holds. But three things are certain of an encoder that keeps to the RFC:
//
//   - Indices count from the newest entry (section 2.3.3).
//   - Entries leave the table from the oldest on only (sections 4.3, 4.4). So a
//     table is at all times the newest few of all insertions, with none left out
//     in between. An insertion that is too large empties the table, itself
//     included: then the insertions after it count from one again, and no valid
//     index reaches it or those before.
//   - An index of an entry that is gone is an error, which ends the connection.
//
// So if k insertions have been seen since the gap, and every insertion since the
// gap was seen, a dynamic index i ≤ k is the i-th newest of them, whatever the
// table's size is: the size decides only whether the encoder may still use the
// index, not what it means. To know the size too large is harmless; to know it
// too small (we keep at most 64 KiB) costs the oldest entries, which are then
// not known. This is why SETTINGS_HEADER_TABLE_SIZE is not needed: what the
// encoder does about it stands in its blocks as a size update. An index beyond k
// is Unknown; it is an error, and shows that bytes were missed without a sign,
// if the table was whole (from the start of the connection, or after an update
// to size 0, which empties it).
//
// # What is missed without a sign
//
// The argument rests on seeing all insertions since the last gap that is known.
// A frame that is cut or does not fit where it stands is such a sign; a call
// that is missed whole, and with it whole frames, is not. The caller that knows
// of one has to say so by Conn.Lost. What is found without it: clients number
// their streams 1, 3, 5, …; where one leaves out a number (which the RFC allows,
// and clients do not do) a request was missed, and both tables are forgotten
// before the block is read. So are they if an answer has a body and no head. Not
// found are:
//
//   - The head of an answer, or trailers, that a missed call held alone: the
//     Status and GRPCStatus of later answers may then be those of other entries.
//   - Where headers and payloads of frames are read by calls of their own (Go's
//     server): the payload of one header block missed together with the header
//     of the next, if the next payload has the same length. The next request is
//     then reported under the number of the one before it. The request after it
//     shows the gap. With 1 in 100 calls missed and none of it told, this was 2
//     in 100,000 requests; with what was missed told, none.
//
// # Bounds
//
// A connection holds at most MaxBytes, nearly all of it in what a hostile peer
// can fill: two tables of 64 KiB, two header blocks of 32 KiB that wait for their
// end, 1,000 streams. Values are kept for the six wanted names only. The
// work for a call is proportional to the captured bytes.
package http2
