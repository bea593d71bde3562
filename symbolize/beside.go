// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"os"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
)

// openBesides finds the files that say more of an object, and notes them in the table and the identity. awaits is set
// if there is no debug file, and may be one later.
func (c *cache) openBesides(o *sample.Object, elf *objfile.File, t *openedTable, id *identity) (b besides, awaits bool) {
	open := func(path string) (*os.File, error) { return c.files.OpenBeside(o, path) }
	debug, err := debugfile.Open(elf, o.Path, open)
	b.debug = c.note(o, &t.debug, debug, &id.debug, reasonDebugFile, err)
	if b.debug == nil {
		debug, awaits = c.openFetched(o, elf, t)
		b.debug, id.fetched = debug.ELF, debug.ELF != nil
	}
	from, at := b.debug, debug.Path
	if from == nil {
		from, at = elf, o.Path
	}
	supplement, err := debugfile.OpenSupplement(from, at, open)
	b.supplement = c.note(o, &t.supplement, supplement, &id.supplement, reasonSup, err)
	pkg, err := debugfile.OpenPackage(from, o.Path, at, open)
	b.pkg = c.note(o, &t.pkg, pkg, &id.pkg, reasonPackage, err)
	c.follow(t, &b)
	return b, awaits
}

// follow sets what is done with other files, as long as the table is used.
func (c *cache) follow(t *openedTable, b *besides) {
	b.split = func(directory, name string, use func(*objfile.File) error) error {
		o := t.object.Load() // those before it may be in use no more
		return debugfile.Split(directory, name, o.Path, func(path string) (*os.File, error) { return c.files.OpenBeside(o, path) }, use)
	}
	b.problem = func(err error) { c.metrics.incomplete(t.object.Load().Path, err) }
}

// reopen opens the debug information of a table that had an index.
func (c *cache) reopen(t *openedTable) (debug *dwarfsym.Table) {
	var elf *objfile.File
	var b besides
	var err error
	for _, one := range []struct {
		from *os.File
		to   **objfile.File
	}{{t.file, &elf}, {t.debug, &b.debug}, {t.supplement, &b.supplement}, {t.pkg, &b.pkg}} {
		if err == nil && one.from != nil {
			*one.to, err = reopenFile(one.from)
		}
	}
	if err == nil {
		c.follow(t, &b)
		debug, err = c.loading.openDebug(elf, b, c.loading.limit-t.symbolBytes())
	}
	if err != nil {
		c.metrics.report(t.object.Load().Path, []problem{{reasonDebugInfo, err}})
	}
	return debug
}

func reopenFile(f *os.File) (*objfile.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return objfile.Open(f, info.Size())
}

// note keeps a file that was found, and counts why it was not.
func (c *cache) note(o *sample.Object, to **os.File, found debugfile.Found, as *stored, reason string, err error) *objfile.File {
	if err == nil {
		var info os.FileInfo
		if info, err = found.File.Stat(); err == nil {
			*as, *to = storedOf(info), found.File
			return found.ELF
		}
		found.File.Close()
	}
	if !errors.Is(err, debugfile.ErrNone) {
		c.metrics.report(o.Path, []problem{{reason, err}})
	}
	return nil
}

// openFetched opens a debug file from elsewhere. awaits is set if it may come later.
func (c *cache) openFetched(o *sample.Object, elf *objfile.File, t *openedTable) (found debugfile.Found, awaits bool) {
	buildID, ok := debugfile.Wanted(elf)
	if c.debugFiles == nil || !ok {
		return found, false
	}
	if !c.debugFiles.Available(buildID) {
		return found, true
	}
	found, err := debugfile.OpenByID(buildID, c.debugFiles.Open)
	if err != nil {
		c.metrics.report(o.Path, []problem{{reasonDebugFile, err}})
		return found, false
	}
	t.debug = found.File
	return found, false
}
