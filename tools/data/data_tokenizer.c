/* data_tokenizer.c: rhetor-data tokenizer. */
#include "base/log.h"
#include "base/text.h"
#include "data/texts.h"
#include "tools/data/data.h"

#include <stdlib.h>
#include <string.h>

/* A TextSource over all documents of all files. */
typedef struct TrainingFiles {
    const Args *a;
    TextOptions o;
    Texts *texts;
    int next;
    int64_t documents, bytes;
} TrainingFiles;

static int next_text(void *ctx, const char **text, size_t *len) {
    TrainingFiles *s = ctx;
    for (;;) {
        if (!s->texts) {
            if (s->next == s->a->nfile) return 0;
            TRY(texts_open(&s->texts, s->a->file[s->next++], &s->o));
        }
        int rc = texts_next(s->texts, text, len);
        if (rc > 0) {
            s->documents++;
            s->bytes += (int64_t)*len;
        }
        if (rc != 0) return rc;
        texts_close(&s->texts);
    }
}

static int convert_tokenizer(const Args *a) {
    Tokenizer *t;
    if (a->nfile > 0)
        return error_set(ERR_USAGE, "--from FILE and other files: nothing is trained");
    TRY(tokenizer_load_as(&t, a->from, a->encoding));
    int rc = tokenizer_save(t, a->out);
    if (rc >= 0)
        log_info("%s: %lld ids, hash %016llx", a->out, (long long)tokenizer_vocab(t),
                 (unsigned long long)tokenizer_hash(t));
    tokenizer_close(&t);
    return rc;
}

int data_tokenizer(Args *a) {
    TRY(data_need(a->out, "--out FILE"));
    if (a->from) return convert_tokenizer(a);
    TRY(data_need_files(a, INT32_MAX));
    if (!a->chars && a->vocab == 0) return error_set(ERR_USAGE, "--vocab N is needed; see --help");
    TrainingFiles s = {.a = a,
                       .o = {.fields = a->field.v, .nfields = a->field.n, .split = a->split}};
    Tokenizer *t = NULL;
    const char **special = xmalloc(((size_t)a->special.n + 1) * sizeof *special);
    special[0] = "<|endoftext|>";
    int n = a->chars ? 0 : 1;
    for (int i = 0; i < a->special.n; i++)
        if (n == 0 || strcmp(a->special.v[i], special[0]) != 0) special[n++] = a->special.v[i];
    const TrainOptions o = {a->vocab, a->min_frequency, special, n, a->tie_break, a->chars};
    int rc = tokenizer_train(&t, next_text, &s, &o);
    free(special);
    texts_close(&s.texts);
    if (rc >= 0) rc = tokenizer_save(t, a->out);
    if (rc >= 0)
        log_info("%s: %lld ids from %lld document%s of %lld bytes, hash %016llx", a->out,
                 (long long)tokenizer_vocab(t), (long long)s.documents, TEXT_S(s.documents),
                 (long long)s.bytes, (unsigned long long)tokenizer_hash(t));
    tokenizer_close(&t);
    return rc;
}
