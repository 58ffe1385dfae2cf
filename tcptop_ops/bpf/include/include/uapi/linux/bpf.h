/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bcc carries the kernel's bpf.h of its own release. */
#include "/virtual/include/bcc/bpf.h"
