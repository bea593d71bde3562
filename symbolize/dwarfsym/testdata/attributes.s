# SPDX-License-Identifier: Apache-2.0
# Entries of one byte with many attributes that take none.
	.text
code:	.skip 64
past:
	.section .debug_info, "", %progbits
	.4byte info_end - . - 4
	.2byte 4
	.4byte 0
	.byte 8
	.uleb128 1			# compile_unit
	.8byte code
	.4byte past - code
	.fill 4 << 20, 1, 2
	.byte 0
info_end:
	.section .debug_abbrev, "", %progbits
	.uleb128 1, 0x11
	.byte 1
	.uleb128 0x11, 0x01, 0x12, 0x06, 0, 0	# low_pc, high_pc
	.uleb128 2, 0x24
	.byte 0
	.rept N
	.uleb128 0x3f, 0x19			# external
	.endr
	.uleb128 0, 0
	.byte 0
