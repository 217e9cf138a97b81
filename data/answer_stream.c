/* answer_stream.c: an answer while its tokens come. See template.h.
 *
 * Bytes wait in `held` as long as they may belong to something that is not shown as it stands: the
 * space that the template puts before an answer, the beginning of a character, the beginning of the
 * template's end of an answer (which is text where the tokenizer has no special token for it). */
#include "data/template.h"

#include "base/error.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/template_format.h"
#include "data/texts.h"

#include <stdlib.h>
#include <string.h>

struct AnswerStream {
    const Tokenizer *tk;
    const char *before, *after; /* what the template puts around an answer; "": nothing */
    int32_t after_id;           /* the special token that `after` is, -1 */
    bool begun, ended;
    Text held;
    char *piece;
};

AnswerStream *answer_stream(Template tp, const Tokenizer *tk, bool raw) {
    AnswerStream *s = xcalloc(1, sizeof *s);
    const struct TemplateFormat *f = template_format(tp);
    s->tk = tk;
    s->before = !raw && f->answer ? f->answer : "";
    if (!*s->before && tokenizer_drops_space(tk)) s->before = " ";
    s->after = raw ? "" : template_end(f);
    s->after_id = tokenizer_added(tk, s->after);
    return s;
}

void answer_stream_free(AnswerStream **sp) {
    AnswerStream *s = *sp;
    if (!s) return;
    free(s->held.s);
    free(s->piece);
    free(s);
    *sp = NULL;
}

/* Is the token a special one? They are not shown. */
static bool is_special(const Tokenizer *tk, int32_t id, const char *text, size_t len) {
    char name[256];
    if (len >= sizeof name) return false;
    memcpy(name, text, len);
    name[len] = '\0';
    return tokenizer_special(tk, name) == id;
}

/* How many bytes at the end may be the beginning of `word`. */
static size_t begun_word(const char *text, size_t len, const char *word) {
    size_t n = strlen(word);
    for (size_t k = n > 0 ? n - 1 : 0; k > 0; k--)
        if (k <= len && memcmp(text + len - k, word, k) == 0) return k;
    return 0;
}

/* Hands out the first n bytes of what is held. */
static const char *show(AnswerStream *s, size_t n) {
    size_t len;
    free(s->piece);
    s->piece = utf8_repair(s->held.s, n, &len);
    memmove(s->held.s, s->held.s + n, s->held.n - n);
    s->held.n -= n;
    return s->piece;
}

static void skip_before(AnswerStream *s) {
    size_t n = strlen(s->before);
    if (s->held.n < n && memcmp(s->held.s, s->before, s->held.n) == 0) return; /* may yet be it */
    s->begun = true;
    if (n == 0 || s->held.n < n || memcmp(s->held.s, s->before, n) != 0) return;
    memmove(s->held.s, s->held.s + n, s->held.n - n);
    s->held.n -= n;
}

const char *answer_stream_add(AnswerStream *s, int32_t id) {
    size_t len;
    const char *bytes = tokenizer_token_bytes(s->tk, id, &len);
    if (s->ended) return "";
    if (id == s->after_id) s->ended = true;
    if (!bytes || is_special(s->tk, id, bytes, len)) return ""; /* no token: template_text */
    text_bytes(&s->held, bytes, len);
    if (!s->begun) skip_before(s);
    if (!s->begun) return "";
    char *end = *s->after ? memmem(s->held.s, s->held.n, s->after, strlen(s->after)) : NULL;
    if (end) {
        s->ended = true;
        s->held.n = (size_t)(end - s->held.s);
        return show(s, s->held.n);
    }
    size_t word = begun_word(s->held.s, s->held.n, s->after),
           begun = utf8_begun(s->held.s, s->held.n);
    return show(s, s->held.n - (word > begun ? word : begun));
}

const char *answer_stream_end(AnswerStream *s) {
    s->ended = true;
    return s->held.n > 0 ? show(s, s->held.n) : "";
}
