/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bcc refuses to compile without. */
#define CONFIG_BPF_SYSCALL 1
