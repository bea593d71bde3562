// SPDX-License-Identifier: Apache-2.0

package columns

func (d *decoder) mapping(m *message) error {
	var id uint64
	var to Mapping
	f := m.sub()
	for f.next() {
		switch f.field {
		case 1:
			id = f.uint()
		case 2:
			to.Start = f.uint()
		case 3:
			to.Limit = f.uint()
		case 4:
			to.Offset = f.uint()
		case 5:
			to.File = f.ref()
		case 6:
			to.BuildID = f.ref()
		case 7, 8, 9, 10:
			flag := HasFunctions << (f.field - 7)
			to.Resolved &^= flag
			if f.uint() != 0 {
				to.Resolved |= flag
			}
		}
	}
	d.mappingIDs = append(d.mappingIDs, id)
	d.p.Mappings = append(d.p.Mappings, to)
	return f.err
}

func (d *decoder) function(m *message) error {
	var id uint64
	var to Function
	f := m.sub()
	for f.next() {
		switch f.field {
		case 1:
			id = f.uint()
		case 2:
			to.Name = f.ref()
		case 3:
			to.SystemName = f.ref()
		case 4:
			to.File = f.ref()
		case 5:
			to.StartLine = f.int()
		}
	}
	d.functionIDs = append(d.functionIDs, id)
	d.p.Functions = append(d.p.Functions, to)
	return f.err
}

func (d *decoder) location(m *message) error {
	var id, mapping uint64
	var to Location
	f := m.sub()
	for f.next() {
		switch f.field {
		case 1:
			id = f.uint()
		case 2:
			mapping = f.uint()
		case 3:
			to.Address = f.uint()
		case 4:
			f.fail(d.line(&f))
		case 5:
			to.Folded = f.uint() != 0
		}
	}
	to.lineEnd = uint32(len(d.p.Lines))
	d.locationIDs = append(d.locationIDs, id)
	d.locationMappings = append(d.locationMappings, mapping)
	d.p.Locations = append(d.p.Locations, to)
	return f.err
}

func (d *decoder) line(m *message) error {
	var function uint64
	var to Line
	f := m.sub()
	for f.next() {
		switch f.field {
		case 1:
			function = f.uint()
		case 2:
			to.Line = f.int()
		case 3:
			to.Column = f.int()
		}
	}
	f.fail(bounded(len(d.p.Lines)+1, "lines", maxEntries))
	d.lineFunctions = append(d.lineFunctions, function)
	d.p.Lines = append(d.p.Lines, to)
	return f.err
}
