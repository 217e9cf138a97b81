/* lines.c: lines out of plain, gzip or zstd files, in constant memory.
 *
 * Compressed bytes come in through `in`; decode() turns them into text in whatever buffer it is
 * given; lines_next() keeps a window [pos, end) of decoded text and moves a begun line to its
 * front when more is needed. Concatenated gzip members and zstd frames are one text, as gzip and
 * zstd have it. */
#include "base/lines.h"

#include "base/error.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { IN_BYTES = 256 << 10, FIRST_BUFFER = 64 << 10, LONGEST_LINE = 64 << 20 };

/* Text becomes 3 to 30 times as long; a file made to fill memory and disks a thousand times and
 * more. Short ones do no harm. */
enum { MOST_FOLD = 200, HARMLESS = 64 << 20 };

typedef enum Format { PLAIN, GZIP, ZSTD } Format;

struct Lines {
    char *path;
    int fd;
    Format format;
    z_stream gz;
    ZSTD_DStream *zst;
    unsigned char *in; /* bytes of the file: [in_pos, in_end) are not yet decoded */
    size_t in_pos, in_end;
    bool in_eof;
    bool inside; /* in the middle of a gzip member or zstd frame */
    bool eof;    /* no more decoded text */
    bool broken; /* an error was reported from which one cannot go on */
    char *text;
    size_t pos, end, room;
    int64_t number, consumed;
    int64_t decoded; /* bytes of text out of `consumed` compressed ones */
};

/* More bytes of the file, behind those that `in` holds. */
static int read_more(Lines *l) {
    ssize_t n;
    do n = read(l->fd, l->in + l->in_end, IN_BYTES - l->in_end);
    while (n < 0 && errno == EINTR);
    if (n < 0) return file_error(l->path, "read");
    l->in_end += (size_t)n;
    l->consumed += n;
    l->in_eof = n == 0;
    return 0;
}

static int refill(Lines *l) {
    if (l->in_pos < l->in_end || l->in_eof) return 0;
    l->in_pos = l->in_end = 0;
    return read_more(l);
}

static int damaged(const Lines *l, const char *kind, const char *what) {
    return error_set(ERR_DATA,
                     "%s: damaged %s data after line %lld: %s; copy or download the file again",
                     l->path, kind, (long long)l->number, what);
}

static int decode_gzip(Lines *l, char *dst, size_t room, size_t *got) {
    if (!l->inside) { /* between members: the next one, or padding with zeros as tape drives do */
        while (l->in_pos < l->in_end && l->in[l->in_pos] == 0) l->in_pos++;
        if (l->in_pos == l->in_end) return 0;
        if (inflateReset(&l->gz) != Z_OK) return damaged(l, "gzip", "cannot begin a new member");
        l->inside = true;
    }
    l->gz.next_in = l->in + l->in_pos;
    l->gz.avail_in = (uInt)(l->in_end - l->in_pos);
    l->gz.next_out = (unsigned char *)dst;
    l->gz.avail_out = (uInt)room;
    int rc = inflate(&l->gz, Z_NO_FLUSH);
    l->in_pos = l->in_end - l->gz.avail_in;
    *got = room - l->gz.avail_out;
    if (rc == Z_STREAM_END)
        l->inside = false;
    else if (rc != Z_OK && rc != Z_BUF_ERROR)
        return damaged(l, "gzip", l->gz.msg ? l->gz.msg : "wrong checksum or format");
    return 0;
}

static int decode_zstd(Lines *l, char *dst, size_t room, size_t *got) {
    ZSTD_inBuffer in = {l->in, l->in_end, l->in_pos};
    ZSTD_outBuffer out = {dst, room, 0};
    size_t rc = ZSTD_decompressStream(l->zst, &out, &in);
    if (ZSTD_isError(rc)) return damaged(l, "zstd", ZSTD_getErrorName(rc));
    if (in.pos > l->in_pos || out.pos > 0) l->inside = rc != 0;
    l->in_pos = in.pos;
    *got = out.pos;
    return 0;
}

/* Up to `room` bytes of decoded text; *got = 0 and l->eof at the end. */
static int decode(Lines *l, char *dst, size_t room, size_t *got) {
    *got = 0;
    if (room > 1 << 30) room = 1 << 30; /* zlib counts in unsigned int */
    while (*got == 0 && !l->eof) {
        TRY(refill(l));
        bool empty = l->in_pos == l->in_end; /* a decoder may still hold text back */
        if (l->format == PLAIN) {
            *got = l->in_end - l->in_pos < room ? l->in_end - l->in_pos : room;
            memcpy(dst, l->in + l->in_pos, *got);
            l->in_pos += *got;
        } else
            TRY((l->format == GZIP ? decode_gzip : decode_zstd)(l, dst, room, got));
        if (l->format != PLAIN) l->decoded += (int64_t)*got;
        if (l->decoded > HARMLESS && l->decoded / MOST_FOLD > l->consumed)
            return error_set(ERR_DATA,
                             "%s: %lld compressed bytes became more than %lld of text, which text "
                             "does not do; if it is meant, decompress the file and give that",
                             l->path, (long long)l->consumed, (long long)l->decoded);
        if (*got == 0 && empty) {
            if (l->inside)
                return damaged(l, l->format == GZIP ? "gzip" : "zstd",
                               "the file ends in the middle of it (truncated?)");
            l->eof = true;
        }
    }
    return 0;
}

static int start_decoder(Lines *l) {
    static const unsigned char zstd_magic[] = {0x28, 0xB5, 0x2F, 0xFD};
    const unsigned char *b = l->in;
    size_t n = l->in_end;
    if (n >= 4 && memcmp(b, "\x89HDF", 4) == 0)
        return error_set(ERR_DATA,
                         "%s: is an HDF5 file (a corpus or a checkpoint), expected text or JSON "
                         "lines; rhetor-data inspect says what it holds",
                         l->path);
    if (n >= 2 && b[0] == 0x1F && b[1] == 0x8B) {
        l->format = GZIP;
        CHECK(inflateInit2(&l->gz, 15 + 16) == Z_OK, "zlib: %s", l->gz.msg ? l->gz.msg : "?");
    } else if (n >= 4 && (memcmp(b, zstd_magic, 4) == 0 ||
                          (b[0] >> 4 == 5 && memcmp(b + 1, "\x2A\x4D\x18", 3) == 0))) {
        l->format = ZSTD; /* the second is a skippable frame, with which pzstd begins */
        l->zst = ZSTD_createDStream();
        CHECK(l->zst, "zstd stream");
        ZSTD_DCtx_setParameter(l->zst, ZSTD_d_windowLogMax, 31); /* files made with --long */
    }
    return 0;
}

int lines_open(Lines **out, const char *path) {
    *out = NULL;
    bool standard_input = strcmp(path, "-") == 0;
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_error(path, "open");
    Lines *l = xcalloc(1, sizeof *l);
    l->path = xstrdup(standard_input ? "standard input" : path);
    l->fd = fd;
    l->in = xmalloc(IN_BYTES);
    l->room = FIRST_BUFFER;
    l->text = xmalloc(l->room + 1);
    int rc = 0;
    /* A pipe may hand out the first bytes one at a time. */
    while (rc == 0 && l->in_end < 4 && !l->in_eof) rc = read_more(l);
    if (rc == 0) rc = start_decoder(l);
    *out = l;
    if (rc < 0) lines_close(out);
    return rc;
}

void lines_close(Lines **lp) {
    Lines *l = *lp;
    if (!l) return;
    if (l->format == GZIP) inflateEnd(&l->gz);
    if (l->format == ZSTD) ZSTD_freeDStream(l->zst);
    if (l->fd != STDIN_FILENO) close(l->fd);
    free(l->path);
    free(l->in);
    free(l->text);
    free(l);
    *lp = NULL;
}

/* More text into the window; room for a terminating NUL is always kept. */
static int extend(Lines *l) {
    if (l->pos > 0) {
        memmove(l->text, l->text + l->pos, l->end - l->pos);
        l->end -= l->pos;
        l->pos = 0;
    }
    if (l->end == l->room) l->text = xrealloc(l->text, (l->room *= 2) + 1);
    size_t got;
    int rc = decode(l, l->text + l->end, l->room - l->end, &got);
    if (rc < 0) l->broken = true;
    l->end += got;
    return rc;
}

/* Throws the rest of a line away whose beginning was too long. */
static int skip_long_line(Lines *l) {
    for (;;) {
        char *newline = memchr(l->text + l->pos, '\n', l->end - l->pos);
        if (newline) {
            l->pos = (size_t)(newline + 1 - l->text);
            break;
        }
        l->pos = l->end = 0;
        if (l->eof) break;
        TRY(extend(l));
    }
    return error_set(ERR_DATA,
                     "%s:%lld: line longer than %d MiB; split the record, or check that "
                     "this is a text file",
                     l->path, (long long)l->number, LONGEST_LINE >> 20);
}

/* Who skips what is bad must still come to an end. */
static int check_broken(const Lines *l) {
    if (!l->broken) return 0;
    return error_set(ERR_IO, "%s: cannot be read beyond line %lld", l->path, (long long)l->number);
}

int lines_next(Lines *l, const char **line, size_t *len) {
    TRY(check_broken(l));
    size_t looked = 0; /* of the window, without finding a newline */
    for (;;) {
        char *from = l->text + l->pos, *newline = NULL;
        if (l->end - l->pos > looked)
            newline = memchr(from + looked, '\n', l->end - l->pos - looked);
        looked = l->end - l->pos;
        size_t n = newline ? (size_t)(newline - from) : looked;
        if (n > LONGEST_LINE) {
            l->number++;
            return skip_long_line(l);
        }
        if (newline || (l->eof && n > 0)) {
            l->number++;
            l->pos += newline ? n + 1 : n;
            if (n > 0 && from[n - 1] == '\r') n--;
            from[n] = '\0';
            *line = from;
            *len = n;
            return 1;
        }
        if (l->eof) return 0;
        TRY(extend(l));
    }
}

int64_t lines_number(const Lines *l) { return l->number; }
int64_t lines_consumed(const Lines *l) { return l->consumed; }
const char *lines_path(const Lines *l) { return l->path; }

int lines_peek(Lines *l, int *byte) {
    *byte = -1;
    for (size_t i = 0; !l->eof || l->pos + i < l->end; i++) {
        while (l->pos + i >= l->end && !l->eof) TRY(extend(l));
        if (l->pos + i >= l->end) break;
        unsigned char c = (unsigned char)l->text[l->pos + i];
        bool mark = i < 3 && c == (unsigned char)"\xEF\xBB\xBF"[i];
        if (mark || c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
        *byte = c;
        break;
    }
    return 0;
}

int lines_read(Lines *l, char *buf, size_t room, size_t *got) {
    size_t n = l->end - l->pos;
    if (n > room) n = room;
    memcpy(buf, l->text + l->pos, n);
    l->pos += n;
    *got = n;
    if (n > 0) return 0;
    TRY(check_broken(l));
    int rc = decode(l, buf, room, got);
    if (rc < 0) l->broken = true;
    return rc;
}

int lines_rest(Lines *l, char **text, size_t *len) {
    size_t n = l->end - l->pos, room = n + FIRST_BUFFER, got;
    char *all = xmalloc(room + 1);
    memcpy(all, l->text + l->pos, n);
    l->pos = l->end = 0;
    while (!l->eof) {
        if (n == room) all = xrealloc(all, (room *= 2) + 1);
        int rc = decode(l, all + n, room - n, &got);
        if (rc < 0) {
            free(all);
            l->broken = true;
            return rc;
        }
        n += got;
    }
    all[n] = '\0';
    *text = all;
    *len = n;
    return 0;
}

int lines_slurp(const char *path, char **text, size_t *len) {
    Lines *l;
    TRY(lines_open(&l, path));
    int rc = lines_rest(l, text, len);
    lines_close(&l);
    return rc;
}
