/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bcc asks for a version; which helpers a kernel has is found by loading. */
#define LINUX_VERSION_CODE 0x061200
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
