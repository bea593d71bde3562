// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// console is where a command speaks: results to out, all else to err.
type console struct {
	out, err io.Writer
	log      *slog.Logger
	// invocation is the command line as it was read at the start.
	invocation *invocation
}

// logOptions are the flags of logging.
type logOptions struct {
	Level  slog.Level `help:"Least severe message to log: debug, info, warn or error." default:"info" placeholder:"LEVEL"`
	Format string     `help:"Form of log messages: text or json." enum:"text,json" default:"text"`
}

func (o logOptions) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: o.Level}
	if o.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// isTerminal tells whether a person is looking.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
