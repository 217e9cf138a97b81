/* texts.c: documents out of the user's files.
 *
 * Plain text is read in blocks into a window from which documents are cut at the separators, so a
 * file of any size takes the memory of its longest document or, if documents may come in parts, of
 * a part. Invalid UTF-8 is an error here, with its line and column: a tokenizer would encode any
 * bytes, and a file in the wrong encoding would be found out by the odd samples of a trained
 * model. */
#include "data/texts.h"

#include "base/error.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/utf8.h"
#include "data/record.h"

#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 1 << 20 };
size_t texts_part = 16 << 20;

struct Texts {
    const TextOptions *o;
    char *path;
    int64_t line; /* of the last document's first character */

    JsonRecords *records; /* JSON */
    json_t *record;
    int field; /* the next field of the record to look at */
    bool found;

    Lines *lines; /* plain text: the window [pos, end) */
    char *window;
    size_t pos, end, room;
    int64_t next_line; /* of the character at pos */
    bool eof;
    bool more, bad;                  /* the document goes on after this part; but is of no use */
    int64_t part_line;               /* where this part begins: its line, and */
    size_t part_column, next_column; /* bytes of that line before it; before pos */
};

bool texts_is_json(const char *path) {
    size_t n = strlen(path);
    if (n > 3 && strcmp(path + n - 3, ".gz") == 0) n -= 3;
    if (n > 4 && strncmp(path + n - 4, ".zst", 4) == 0) n -= 4;
    return (n > 5 && strncmp(path + n - 5, ".json", 5) == 0) ||
           (n > 6 && strncmp(path + n - 6, ".jsonl", 6) == 0);
}

int texts_open(Texts **out, const char *path, const TextOptions *o) {
    *out = NULL;
    Texts *t = xcalloc(1, sizeof *t);
    t->o = o;
    t->path = xstrdup(path);
    t->next_line = 1;
    int rc =
        texts_is_json(path) ? json_records_open(&t->records, path) : lines_open(&t->lines, path);
    if (t->records) json_records_allow_nul(t->records);
    if (rc < 0) texts_close(&t);
    *out = t;
    return rc;
}

void texts_close(Texts **tp) {
    Texts *t = *tp;
    if (!t) return;
    json_decref(t->record);
    json_records_close(&t->records);
    lines_close(&t->lines);
    free(t->window);
    free(t->path);
    free(t);
    *tp = NULL;
}

bool texts_more(const Texts *t) { return t->more; }

int64_t texts_line(const Texts *t) { return t->line; }

int texts_wrap(const Texts *t, int code, int64_t line) {
    return record_wrap(code, t->path, t->records && json_records_is_array(t->records), line);
}

int64_t texts_consumed(const Texts *t) {
    return t->records ? json_records_consumed(t->records) : lines_consumed(t->lines);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static int next_field(Texts *t, const char **text, size_t *len) {
    static const char *const only_text[] = {"text"};
    const char *const *fields = t->o->fields ? t->o->fields : only_text;
    int nfields = t->o->fields ? t->o->nfields : 1;
    for (;;) {
        while (t->record && t->field < nfields) {
            const char *name = fields[t->field++];
            if (!json_is_object(t->record) || !json_object_get(t->record, name)) continue;
            t->found = true;
            int rc = json_get_str(t->record, name, text);
            if (rc < 0) return texts_wrap(t, rc, t->line);
            *len = json_string_length(json_object_get(t->record, name));
            return 1;
        }
        bool lacking = t->record && !t->found;
        const char *value;
        int rc = lacking ? json_get_str(t->record, fields[0], &value) : 0; /* for its message */
        json_decref(t->record);
        t->record = NULL;
        t->field = 0;
        t->found = false;
        if (lacking) return texts_wrap(t, rc, t->line);
        rc = json_records_next(t->records, &t->record);
        t->line = json_records_line(t->records);
        if (rc <= 0) return rc;
    }
}

/* --- plain text ------------------------------------------------------------------------------- */

static int fill_window(Texts *t) {
    if (t->pos > 0) {
        memmove(t->window, t->window + t->pos, t->end - t->pos);
        t->end -= t->pos;
        t->pos = 0;
    }
    if (t->room - t->end < READ_BYTES) {
        t->room = 2 * t->room + 2 * READ_BYTES;
        t->window = xrealloc(t->window, t->room + 1);
    }
    size_t got;
    TRY(lines_read(t->lines, t->window + t->end, t->room - t->end, &got));
    t->end += got;
    t->eof = got == 0;
    return 0;
}

static int64_t count_lines(const char *s, size_t n) {
    int64_t lines = 0;
    for (const char *end = s + n; (s = memchr(s, '\n', (size_t)(end - s))) != NULL; s++) lines++;
    return lines;
}

static int check_utf8(const Texts *t, const char *text, size_t len) {
    size_t good = utf8_valid(text, len);
    if (good == len) return 0;
    const char *line = text + good;
    while (line > text && line[-1] != '\n') line--;
    const size_t before = line == text ? t->part_column : 0;
    return error_set(ERR_DATA,
                     "%s:%lld: invalid UTF-8, byte 0x%02X at column %zu; re-encode the file, e.g. "
                     "with iconv",
                     t->path, (long long)(t->part_line + count_lines(text, good)),
                     (unsigned)(unsigned char)text[good],
                     before + (size_t)(text + good - line) + 1);
}

/* Takes n bytes out of the window. */
static void take(Texts *t, size_t n) {
    const char *from = t->window + t->pos, *newline = memrchr(from, '\n', n);
    t->next_line += count_lines(from, n);
    t->next_column = newline ? (size_t)(from + n - newline) - 1 : t->next_column + n;
    t->pos += n;
}

/* What is left of the document up to the next separator or the end, or the next part of it; 0 at
 * the end of the file. */
static int next_piece(Texts *t, const char **text, size_t *len) {
    const char *split = t->o->split;
    size_t nsplit = split ? strlen(split) : 0, looked = 0, part = texts_part;
    t->part_line = t->next_line;
    t->part_column = t->next_column;
    for (;;) {
        char *from = t->window + t->pos, *found = NULL;
        size_t n = t->end - t->pos;
        if (nsplit > 0 && n > looked) found = memmem(from + looked, n - looked, split, nsplit);
        if (!found && !t->eof) {
            looked = n >= nsplit && nsplit > 0 ? n - nsplit + 1 : 0;
            if (t->o->parts_for && n >= part) {
                /* A separator may begin at `looked`, and a line break before it is not text. */
                *len = tokenizer_cut(t->o->parts_for, from, nsplit > 0 ? looked : n);
                if (*len > 0) {
                    *text = from;
                    take(t, *len);
                    t->more = true;
                    return 1;
                }
                part = 2 * n;
            }
            TRY(fill_window(t));
            continue;
        }
        if (!found && n == 0) return 0;
        *text = from;
        *len = found ? (size_t)(found - from) : n;
        take(t, *len + (found ? nsplit : 0));
        if (found && *len > 0 && from[*len - 1] == '\n') --*len;
        return 1;
    }
}

static int next_plain(Texts *t, const char **text, size_t *len) {
    for (;;) {
        const bool inside = t->more, first = t->line == 0;
        t->more = false;
        int rc = next_piece(t, text, len);
        if (rc <= 0) return rc;
        if (!inside) {
            t->bad = false;
            t->line = t->part_line;
            const char *skip = first ? "\xEF\xBB\xBF" : "\n"; /* a byte order mark is no text */
            const size_t n = strlen(skip);
            if (*len >= n && memcmp(*text, skip, n) == 0) {
                *text += n;
                *len -= n;
                if (!first) t->line = ++t->part_line;
            }
            if (*len == 0 && !t->more) continue;
        }
        if (t->bad) continue; /* the rest of a document that has been an error */
        rc = check_utf8(t, *text, *len);
        t->bad = rc < 0;
        return rc < 0 ? rc : 1;
    }
}

int texts_next(Texts *t, const char **text, size_t *len) {
    if (t->records) return next_field(t, text, len);
    return next_plain(t, text, len);
}
