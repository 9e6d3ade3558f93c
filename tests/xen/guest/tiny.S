/* tiny.S - a PV guest without an operating system, for tests of domains' lives: 4 MiB, no time to boot.
 *
 * Its command line says what it does:
 *   ""    sleeps for ever, deaf to all requests          "x"   spins for ever
 *   "R"   shuts down with reason R (0 poweroff, 1 reboot, 2 suspend, 3 crash, 4 watchdog)
 *   "RD"  the same after about D seconds                 "f"   faults, which crashes the domain */
	.macro xen_note type, kind, value:vararg
	.align 4
	.long 4, 2f - 1f, \type
	.asciz "Xen"
1:	\kind \value
2:	.align 4
	.endm

	.section .note.Xen, "a", @note
	xen_note 6, .asciz, "tiny"	/* guest OS */
	xen_note 5, .asciz, "xen-3.0"
	xen_note 8, .asciz, "generic"	/* loader */
	xen_note 9, .asciz, "yes"	/* PAE mode */
	xen_note 3, .quad, 0		/* virtual base */
	xen_note 4, .quad, 0		/* offset of physical addresses */
	xen_note 1, .quad, _start

	.text
	.globl _start
_start:
	movzbl 128(%rsi), %eax		/* start_info: the first two characters of the command line */
	movzbl 129(%rsi), %ebx
	cmp $'x', %eax
	je spin
	cmp $'f', %eax
	je fault
	sub $'0', %eax
	cmp $9, %eax
	ja sleep
	mov %eax, reason(%rip)
	sub $'0', %ebx
	jle stop
	imul $600000000, %rbx, %rbx
	shl $2, %rbx			/* that many cycles of a 2.4 GHz clock */
	call clock
	add %rax, %rbx
wait:
	pause
	call clock
	cmp %rbx, %rax
	jb wait
stop:
	mov $2, %edi			/* SCHEDOP_shutdown */
	lea reason(%rip), %rsi
	call sched_op
sleep:
	mov $1, %edi			/* SCHEDOP_block */
	xor %esi, %esi
	call sched_op
	jmp sleep
spin:
	pause
	jmp spin
fault:
	ud2

clock:
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	ret

sched_op:
	push %rcx
	push %r11
	mov $29, %eax			/* __HYPERVISOR_sched_op */
	syscall
	pop %r11
	pop %rcx
	ret

	.data
reason:
	.long 0
	.section .note.GNU-stack, "", @progbits
