// SPDX-License-Identifier: Apache-2.0

// Package debuginfod fetches the debug files of stripped programs by their build IDs, from servers
// that the user names, and keeps them in a directory. Nobody waits for it: a file is there, or it is
// asked for and there later, or nobody has it, which is remembered too.
// https://sourceware.org/elfutils/Debuginfod.html
//
// What servers send is as little trusted as what programs map: a file is taken if it is an ELF
// file of the build ID that was asked for, and read by those who read the files of programs.
package debuginfod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// LeastBytes is the smallest bound of a directory: few debug files would fit into less.
	LeastBytes = 64 << 20
	// minID and maxID bound the length of a build ID in hex digits: shorter ones are no hashes, and
	// a file might have one by chance.
	minID, maxID = 16, 128
	// maxWaiting bounds the build IDs that wait for their turn. Others come again by themselves.
	maxWaiting = 1024
	// stallTime is how long a server may send nothing, fetchTime how long it may take for a file: servers
	// unpack archives before they answer, and ask each other.
	stallTime = 90 * time.Second
	fetchTime = 30 * time.Minute
	// askPause is the time between one file and the next: programs may be made to have ever new build
	// IDs, and servers are there for others too.
	askPause = 250 * time.Millisecond
)

// Options are what a Client works with.
type Options struct {
	// Servers are asked in this order, until one has the file.
	Servers []*Server
	// Dir is made if need be. It belongs to this client alone.
	Dir string
	// Bytes bounds the files in the directory. A quarter of it is for the one that is being fetched, and
	// so bounds each.
	Bytes      int64
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Client has debug files. It is safe for concurrent use.
type Client struct {
	servers  []*Server
	cache    *cache
	maxFile  int64
	stall    time.Duration
	pause    time.Duration
	log      *slog.Logger
	metrics  *metrics
	diskRest time.Time // until then the disk is not written to; Run's own

	mu      sync.Mutex
	waiting map[string]bool
	queue   chan string
}

// New takes the directory; nothing is fetched before Run.
func New(o Options) (*Client, error) {
	c := &Client{
		servers: o.Servers, maxFile: o.Bytes / 4, stall: stallTime, pause: askPause, log: o.Logger, metrics: newMetrics(),
		waiting: make(map[string]bool), queue: make(chan string, maxWaiting),
	}
	var err error
	if c.cache, err = openCache(o.Dir, o.Bytes-c.maxFile, c.metrics.evicted.Inc); err != nil {
		return nil, fmt.Errorf("open directory of debug files: %w", err)
	}
	if err := c.metrics.register(o.Registerer, c); err != nil {
		return nil, errors.Join(err, c.cache.close())
	}
	return c, nil
}

// Close gives the directory up. Run must have ended.
func (c *Client) Close() error { return c.cache.close() }

// valid reports whether a build ID is lower-case hex of a usual length: it becomes a part of a
// path and of a URL.
func valid(id string) bool {
	return len(id) >= minID && len(id) <= maxID && len(id)%2 == 0 && strings.Trim(id, "0123456789abcdef") == ""
}

// Available reports whether the debug file of a build ID, in lower-case hex, can be opened. If not,
// it is asked for, unless it was not to be had shortly before.
func (c *Client) Available(id string) bool {
	if !valid(id) {
		return false
	}
	there, ask := c.cache.look(id)
	if ask {
		c.ask(id)
	}
	return there
}

// ask puts a build ID into the queue, once.
func (c *Client) ask(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[id] {
		return
	}
	select {
	case c.queue <- id:
		c.waiting[id] = true
	default: // it is asked for again as long as it is needed
	}
}

// Open opens the debug file of a build ID. The error wraps fs.ErrNotExist if it is not
// available. The caller closes the file, which may lose its name meanwhile.
func (c *Client) Open(id string) (*os.File, error) {
	if !c.Available(id) {
		return nil, fmt.Errorf("debug file of %.*q: %w", maxID, id, os.ErrNotExist)
	}
	return c.cache.open(id)
}

// Run fetches what is asked for, one file at a time, until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	for {
		select {
		case id := <-c.queue:
			c.serve(ctx, id)
			c.mu.Lock()
			delete(c.waiting, id)
			c.mu.Unlock()
			select {
			case <-time.After(c.pause):
			case <-ctx.Done():
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// serve asks one server after the other for a file.
func (c *Client) serve(ctx context.Context, id string) {
	nobody := true // has it, as far as all were asked
	for _, s := range c.servers {
		if now := c.cache.now(); now.Before(s.rests) || now.Before(c.diskRest) {
			nobody = false
			continue
		}
		err := c.fetch(ctx, s, id)
		if ctx.Err() != nil {
			return
		}
		result := resultOf(err)
		c.metrics.requests.WithLabelValues(result).Inc()
		switch result {
		case found:
			s.failures = 0
			return
		case unwritable:
			c.diskRest, nobody = c.cache.now().Add(failedFor), false
			c.log.Warn("debug files cannot be kept", "error", err)
		case failed:
			s.fail(c.cache.now())
			nobody = false
			c.log.Warn("debuginfod server does not answer as it should; it is left alone for a while", "server", s.String(), "error", err)
		default:
			s.failures = 0
			if result != absent {
				c.log.Warn("debug file is refused", "server", s.String(), "build_id", id, "error", err)
			}
		}
	}
	c.cache.miss(id, nobody)
}

// fetch fetches a file from one server into the cache.
func (c *Client) fetch(ctx context.Context, s *Server, id string) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	f, err := c.cache.create(id)
	if err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	size, err := s.fetch(ctx, id, c.maxFile, c.stall, &diskWriter{file: f})
	if err == nil {
		err = check(f, size, id)
	}
	if err != nil {
		c.cache.discard(id, f)
		return err
	}
	if err := c.cache.keep(id, f, size); err != nil {
		c.cache.discard(id, f)
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	return nil
}

// syncBytes is how much is written before it goes to the disk: in small portions it holds up nobody else who
// writes, nor the end of the agent.
const syncBytes = 8 << 20

// diskWriter tells errors of the disk from those of the network.
type diskWriter struct {
	file  *os.File
	dirty int
}

func (w *diskWriter) Write(b []byte) (n int, err error) {
	n, err = w.file.Write(b)
	if w.dirty += n; err == nil && w.dirty >= syncBytes {
		w.dirty = 0
		err = w.file.Sync()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errDisk, err)
	}
	return n, err
}
