// SPDX-License-Identifier: Apache-2.0

package strip

import (
	"debug/elf"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// wanted tells which sections of a file are kept as they are. names is the number of that with the names of
// sections, or 0.
func wanted(f *objfile.File, names int) []bool {
	keep := make([]bool, len(f.Sections))
	for i := range f.Sections {
		s := &f.Sections[i]
		switch {
		case s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL:
		case i == names && names > 0:
			keep[i] = true
		case s.Type == elf.SHT_SYMTAB || s.Type == elf.SHT_DYNSYM:
			keep[i] = true
			if int(s.Link) < len(f.Sections) && f.Sections[s.Link].Type == elf.SHT_STRTAB {
				keep[s.Link] = true
			}
		case s.Type == elf.SHT_NOTE || s.Type == elf.SHT_SYMTAB_SHNDX || isGoTable(s.Name) || isDebug(s.Name) || isPLT(s):
			keep[i] = true
		}
	}
	return keep
}

func isGoTable(name string) bool { return name == ".gopclntab" || name == ".data.rel.ro.gopclntab" }

// isPLT tells the tables whose entries are named by what they jump to.
func isPLT(s *objfile.Section) bool {
	const code = elf.SHF_ALLOC | elf.SHF_EXECINSTR
	return strings.HasPrefix(s.Name, ".plt") && s.Flags&code == code
}

// isDebug tells sections from which functions, files and lines are named. Left out are locations of
// variables, call frames, macros and indexes. Compressed ones of old have a z in their names.
func isDebug(name string) bool {
	switch strings.Replace(name, ".zdebug_", ".debug_", 1) {
	case ".debug_info", ".debug_abbrev", ".debug_line", ".debug_str", ".debug_line_str", ".debug_str_offsets",
		".debug_addr", ".debug_ranges", ".debug_rnglists", ".debug_aranges", ".debug_types",
		".debug_sup", ".gnu_debugaltlink", ".gnu_debugdata":
		return true
	}
	return false
}
