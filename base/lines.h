/* lines.h: records out of text files, plain, .gz or .zst, streamed in constant memory. */
#ifndef BASE_LINES_H
#define BASE_LINES_H

#include <stddef.h>
#include <stdint.h>

typedef struct Lines Lines;

/* Opens path ("-": standard input). The compression is recognised by the first bytes, not the name.
 * ERR_IO: missing or unreadable: the message has the path and errno's text. */
int lines_open(Lines **out, const char *path);
void lines_close(Lines **l);

/* The next line without its newline (and without \r before it), NUL-terminated, valid until the
 * next call. Returns 1, 0 at the end, or an error: ERR_DATA for damaged compression, for a small
 * file that becomes gigabytes, and for lines longer than 64 MiB, after which alone one may go on;
 * after the others every further call is ERR_IO. */
int lines_next(Lines *l, const char **line, size_t *len);
int64_t lines_number(const Lines *l);   /* of the last line handed out, from 1 */
int64_t lines_consumed(const Lines *l); /* bytes of the file read so far, compressed ones */
const char *lines_path(const Lines *l);

/* The next byte that is neither white space nor a byte order mark, without taking it; -1: none. */
int lines_peek(Lines *l, int *byte);
/* The next bytes as they are, at most `room`; *got = 0 at the end. */
int lines_read(Lines *l, char *buf, size_t room, size_t *got);
/* All that was not yet handed out, malloc'd, NUL-terminated. */
int lines_rest(Lines *l, char **text, size_t *len);

/* The whole decompressed content, malloc'd, NUL-terminated. */
int lines_slurp(const char *path, char **text, size_t *len);

#endif
