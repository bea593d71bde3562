// SPDX-License-Identifier: Apache-2.0

package dwarfsym

// Tags, attributes and forms that are used: DWARF 5 sections 7.5.4 to 7.5.6.
const (
	tagInlined    = 0x1d
	tagSubprogram = 0x2e

	attrName           = 0x03
	attrLines          = 0x10
	attrLowPC          = 0x11
	attrHighPC         = 0x12
	attrDirectory      = 0x1b
	attrOrigin         = 0x31
	attrSpecification  = 0x47
	attrRanges         = 0x55
	attrCallFile       = 0x58
	attrCallLine       = 0x59
	attrLinkage        = 0x6e
	attrStrOffsetsBase = 0x72
	attrAddrBase       = 0x73
	attrRangesBase     = 0x74
	attrSplitName      = 0x76
	attrLinkageMIPS    = 0x2007 // before DWARF 4
	attrGNUSplitName   = 0x2130 // of GNU's extensions to DWARF 4
	attrGNUSplitID     = 0x2131
	attrGNURangesBase  = 0x2132
	attrGNUAddrBase    = 0x2133

	formAddr         = 0x01
	formBlock2       = 0x03
	formBlock4       = 0x04
	formData2        = 0x05
	formData4        = 0x06
	formData8        = 0x07
	formString       = 0x08
	formBlock        = 0x09
	formBlock1       = 0x0a
	formData1        = 0x0b
	formFlag         = 0x0c
	formSData        = 0x0d
	formStrp         = 0x0e
	formUData        = 0x0f
	formRefAddr      = 0x10
	formRef1         = 0x11
	formRef2         = 0x12
	formRef4         = 0x13
	formRef8         = 0x14
	formRefUData     = 0x15
	formIndirect     = 0x16
	formSecOffset    = 0x17
	formExprLoc      = 0x18
	formFlagPresent  = 0x19
	formStrx         = 0x1a
	formAddrx        = 0x1b
	formRefSup4      = 0x1c
	formStrpSup      = 0x1d
	formData16       = 0x1e
	formLineStrp     = 0x1f
	formRefSig8      = 0x20
	formImplicit     = 0x21
	formLoclistx     = 0x22
	formRnglistx     = 0x23
	formRefSup8      = 0x24
	formStrx1        = 0x25
	formStrx4        = 0x28
	formAddrx1       = 0x29
	formAddrx4       = 0x2c
	formGNUAddrIndex = 0x1f01 // of GNU's extensions to DWARF 4
	formGNUStrIndex  = 0x1f02
	formGNURefAlt    = 0x1f20
	formGNUStrpAlt   = 0x1f21
)

// class is what a value means.
type class uint8

const (
	classNone      class = iota // nothing that is used
	classNumber                 // itself; of sections an offset
	classAddress                // itself
	classAddrx                  // an index in .debug_addr
	classInline                 // a string at an offset in .debug_info
	classStrp                   // at an offset in .debug_str
	classLineStrp               // at an offset in .debug_line_str
	classStrx                   // by its index in .debug_str_offsets
	classStrpSup                // at an offset in .debug_str of the supplementary file
	classRef                    // an offset in the section that the unit is in
	classRefAddr                // an offset in .debug_info
	classRefSup                 // an offset in .debug_info of the supplementary file
	classSignature              // that of a type unit
	classRnglistx               // an index in .debug_rnglists
)

// value is that of an attribute.
type value struct {
	class class
	n     uint64
}

// small gives the bytes of forms of a fixed size that hold a number; 0 of others.
var small = [0x30]struct {
	class class
	bytes int
}{
	formData1: {classNumber, 1}, formData2: {classNumber, 2}, formData4: {classNumber, 4}, formData8: {classNumber, 8},
	formFlag: {classNone, 1}, formRefSup4: {classRefSup, 4}, formRefSup8: {classRefSup, 8}, formRefSig8: {classSignature, 8},
	formStrx1: {classStrx, 1}, formStrx1 + 1: {classStrx, 2}, formStrx1 + 2: {classStrx, 3}, formStrx4: {classStrx, 4},
	formAddrx1: {classAddrx, 1}, formAddrx1 + 1: {classAddrx, 2}, formAddrx1 + 2: {classAddrx, 3}, formAddrx4: {classAddrx, 4},
}

// value reads one. Forms that are unknown make c bad.
func (c *cursor) value(form uint64, u *unit) value {
	if form == formIndirect {
		if form = c.uleb(); form == formIndirect || form == formImplicit {
			c.bad = true
			return value{}
		}
	}
	if form < uint64(len(small)) && small[form].bytes > 0 {
		return value{small[form].class, c.number(small[form].bytes)}
	}
	switch form {
	case formAddr:
		return value{classAddress, c.number(int(u.addressSize))}
	case formUData:
		return value{classNumber, c.uleb()}
	case formSData:
		return value{classNumber, uint64(c.sleb())}
	case formSecOffset:
		return value{classNumber, c.offset(u.is64)}
	case formStrp:
		return value{classStrp, c.offset(u.is64)}
	case formLineStrp:
		return value{classLineStrp, c.offset(u.is64)}
	case formStrx, formGNUStrIndex:
		return value{classStrx, c.uleb()}
	case formAddrx, formGNUAddrIndex:
		return value{classAddrx, c.uleb()}
	case formRnglistx:
		return value{classRnglistx, c.uleb()}
	case formString:
		at := c.place()
		c.text()
		return value{classInline, at}
	case formRef1, formRef2, formRef4, formRef8:
		return value{classRef, u.offset + c.number(1<<(form-formRef1))}
	case formRefUData:
		return value{classRef, u.offset + c.uleb()}
	case formRefAddr:
		return value{classRefAddr, c.offset(u.is64)}
	case formGNURefAlt:
		return value{classRefSup, c.offset(u.is64)}
	case formStrpSup, formGNUStrpAlt:
		return value{classStrpSup, c.offset(u.is64)}
	}
	c.skip(form, u)
	return value{}
}

// skip passes over a value that is not used.
func (c *cursor) skip(form uint64, u *unit) {
	switch form {
	case formBlock1:
		c.take(c.number(1))
	case formBlock2:
		c.take(c.number(2))
	case formBlock4:
		c.take(c.number(4))
	case formBlock, formExprLoc:
		c.take(c.uleb())
	case formFlagPresent:
	case formData16:
		c.take(16)
	case formLoclistx:
		c.uleb()
	default:
		c.bad = true
	}
}
