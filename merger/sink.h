/*
 * sink.h - where merged items go: standard output or a file, in large writes, whole or not there.
 *
 * -o FILE is written into a nameless file in FILE's directory (O_TMPFILE, so that nothing is left behind whatever kills us;
 * where the file system has none, a temporary name), synced, given a name and renamed over FILE. An existing file keeps its mode
 * and owner, a symlink's target is replaced. What is no regular file (/dev/null, a FIFO) is opened and written.
 *
 * A kept sink (--resume) writes to FILE.nwm-part instead, which another process can continue: it is locked while one writes to it, it
 * stays when the process ends early, and the digest of its bytes is known at every moment.
 *
 * The sink never blocks the event loop on a pipe: when the reader is slow, sink_pump() says so and sink_wait_fd() is what to wait
 * for. Regular files always take what is written.
 */
#ifndef NWM_SINK_H
#define NWM_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/digest.h"
#include "shared/fault.h"

struct sink;

/* path: NULL is standard output. Output when it cannot be opened, or is a FIFO that nobody opens for reading within timeout_ms;
 * FILE itself is not touched yet. */
struct fault *sink_open(const char *path, int64_t timeout_ms, struct sink **out) MUST_CHECK;
/* The same for a kept one. What FILE.nwm-part holds stays as it is until sink_take_up(). Usage when FILE is no regular file (nor to become
 * one), Busy while another process writes to it. */
struct fault *sink_open_kept(const char *path, struct sink **out) MUST_CHECK;
/* Kept: goes on behind the first `bytes` bytes of the temporary, whose digest must be this (Changed, and nothing is touched), and drops what
 * comes after them. Reads them all. With 0 bytes it starts afresh. */
struct fault *sink_take_up(struct sink *s, uint64_t bytes, const struct digest *digest) MUST_CHECK;
/* Kept: whether the temporary survives sink_close(). It does at first, for it may be an earlier merge's; an empty one never does. */
void sink_set_stays(struct sink *s, bool stays);
/* Kept: does the temporary hold nothing? */
bool sink_is_empty(const struct sink *s);
/* Kept: `len` bytes of the temporary, from `offset` on. */
struct fault *sink_read_back(struct sink *s, uint64_t offset, char *to, size_t len) MUST_CHECK;
/* Kept: the bytes written are on the disk when this returns. */
struct fault *sink_sync(struct sink *s) MUST_CHECK;
/* Kept: the digest of all bytes written. */
struct digest sink_digest(const struct sink *s);
/* The file that is replaced, symlinks resolved; NULL when none is. */
const char *sink_target(const struct sink *s);
/* Makes the names in the target's directory last. */
struct fault *sink_sync_directory(struct sink *s) MUST_CHECK;
/* Without sink_finish() before it, FILE is as it was. NULL is fine. */
void sink_close(struct sink *s);

/* Appends bytes. Small pieces are copied; one larger than the buffer is only referred to and must stay where it is until
 * sink_has_room(). Call only while sink_has_room(). */
void sink_append(struct sink *s, const void *data, size_t len);
/* Can more be appended before something is written? */
bool sink_has_room(const struct sink *s);
/* Bytes appended and not yet written. */
size_t sink_pending(const struct sink *s);

/* Writes what it can. all: everything, else only until there is room. *blocked is set when the reader does not take more now.
 * Output, naming the file and why; a reader that has gone away is EPIPE: sink_reader_is_gone(). */
struct fault *sink_pump(struct sink *s, bool all, bool *blocked) MUST_CHECK;
/* The descriptor whose writability ends a block. */
int sink_wait_fd(const struct sink *s);
/* The fault was EPIPE: end quietly, by SIGPIPE. */
bool sink_reader_is_gone(const struct sink *s);

/* After everything is written: fsync, rename, fsync of the directory. On standard output: closes it, since only close tells. */
struct fault *sink_finish(struct sink *s) MUST_CHECK;

/* Kept: was it finished? Its temporary has become FILE then. */
bool sink_is_finished(const struct sink *s);
/* Kept: once finished, takes the temporary's name again, empty and locked until sink_let_go(), so that nobody begins while what belongs to
 * it is removed; before that the lock is held anyhow. Busy when another process was faster. */
struct fault *sink_lock_again(struct sink *s) MUST_CHECK;
void sink_let_go(struct sink *s);

/* Bytes written or appended since the start. */
uint64_t sink_bytes(const struct sink *s);
/* For people: the path, or "standard output". */
const char *sink_name(const struct sink *s);
/* The memory of its buffer. */
size_t sink_memory(void);

#endif
