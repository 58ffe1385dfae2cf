/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Instruction encoding is the compiler's business; the names that bcc's bpf.h builds on. */
#pragma once
