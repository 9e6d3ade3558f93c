/* boot.S - the boot sector of an HVM guest without an operating system: says so on the first serial line, then a dot a
 * second. */
	.code16
	.text
	.globl _start
_start:
	ljmp $0x07c0, $1f
1:
	mov %cs, %ax
	mov %ax, %ds
	mov $words, %si
2:
	lodsb
	test %al, %al
	jz 3f
	call put
	jmp 2b
3:
	mov $'.', %al
	call put
	mov $0x8600, %ax		/* BIOS: wait CX:DX microseconds */
	mov $15, %cx
	mov $16960, %dx
	int $0x15
	jmp 3b

put:
	push %ax
	mov $0x3fd, %dx
4:
	in %dx, %al
	test $0x20, %al			/* room for a character */
	jz 4b
	pop %ax
	mov $0x3f8, %dx
	out %al, %dx
	mov $0x0e, %ah			/* and on the screen */
	mov $7, %bx
	int $0x10
	ret

words:
	.asciz "\r\nTINY HVM UP\r\n"
	.org 510
	.word 0xaa55
