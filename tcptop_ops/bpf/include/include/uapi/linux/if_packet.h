/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bcc includes this header; a sock_ops program needs nothing of it. */
