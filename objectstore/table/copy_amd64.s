#include "textflag.h"

// func stream(dst, src *byte, blocks int)
//
// Copies blocks of 64 bytes with stores that pass by the cache. dst is aligned at 16 bytes.
TEXT ·stream(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ blocks+16(FP), CX

block:
	PREFETCHNTA 512(SI)
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVNTO X0, (DI)
	MOVNTO X1, 16(DI)
	MOVNTO X2, 32(DI)
	MOVNTO X3, 48(DI)
	ADDQ $64, SI
	ADDQ $64, DI
	DECQ CX
	JNZ  block

	// Later stores, such as those that publish the copy, must not become visible before these.
	SFENCE
	RET
