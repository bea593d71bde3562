# SPDX-License-Identifier: Apache-2.0
# Calls that were inlined, of functions in type units, of DWARF version V: no compiler has been seen to make this.
	.text
code:	.skip 64
past:

	.macro unit kind, next
	.4byte \next - . - 4
	.2byte V
	.if V >= 5
	.byte \kind, 8
	.4byte 0
	.else
	.4byte 0
	.byte 8
	.endif
	.endm

	.section .debug_info, "", %progbits
	unit 1, info_end
	.uleb128 1			# compile_unit
	.8byte code
	.4byte past - code
	.uleb128 2			# subprogram
	.asciz "outer"
	.8byte code
	.4byte past - code
	.uleb128 3			# inlined_subroutine of a function in a type unit
	.8byte 0x1111
	.8byte code + 16
	.4byte 8
	.byte 7
	.uleb128 3			# of one whose declarations lead in a circle
	.8byte 0x2222
	.8byte code + 32
	.4byte 8
	.byte 8
	.uleb128 3			# of one that is missing
	.8byte 0x3333
	.8byte code + 48
	.4byte 8
	.byte 9
	.byte 0, 0
info_end:

	.if V < 5
	.section .debug_types, "", %progbits
	.endif
types:	unit 2, circle
	.8byte 0x1111
	.4byte type - types
	.uleb128 4			# type_unit
type:	.uleb128 5			# subprogram that is declared below
	.4byte declared - types
declared:
	.uleb128 6
	.asciz "inner"
	.asciz "_Z5innerv"
	.byte 0
circle:	unit 2, types_end
	.8byte 0x2222
	.4byte again - circle
	.uleb128 4
again:	.uleb128 7
	.8byte 0x2222
	.byte 0
types_end:

	.macro shape code, tag, children
	.uleb128 \code, \tag
	.byte \children
	.endm
	.section .debug_abbrev, "", %progbits
	shape 1, 0x11, 1
	.uleb128 0x11, 0x01, 0x12, 0x06, 0, 0				# low_pc, high_pc
	shape 2, 0x2e, 1
	.uleb128 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0		# name
	shape 3, 0x1d, 0
	.uleb128 0x31, 0x20, 0x11, 0x01, 0x12, 0x06, 0x59, 0x0b, 0, 0	# abstract_origin, call_line
	shape 4, 0x41, 1
	.uleb128 0, 0
	shape 5, 0x2e, 0
	.uleb128 0x47, 0x13, 0, 0					# specification
	shape 6, 0x2e, 0
	.uleb128 0x03, 0x08, 0x6e, 0x08, 0, 0				# linkage_name
	shape 7, 0x2e, 0
	.uleb128 0x47, 0x20, 0, 0
	.byte 0
