/* dataset.c: files of records -> token sequences.
 *
 * Records are read one after the other, encoded a block at a time by all threads, and committed in
 * the order of the files, so the result and the messages do not depend on the number of threads.
 * All tokens lie in one array; while it grows, sequences are known by their offsets in it. */
#include "data/dataset.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "data/record.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512 };

/* A record on its way. */
typedef struct Incoming {
    Record record;
    int64_t line;
    int rc; /* negative: what was wrong with it is in `message` */
    char *message;
    IdList prompt;  /* demonstrations: the whole conversation */
    IdList *answer; /* ranked: [record.nanswer] */
    uint8_t *learn; /* demonstrations: of the conversation */
    int64_t nprompt;
} Incoming;

/* Owned by the Dataset. */
typedef struct Store {
    int32_t *tokens;
    uint8_t *learn; /* NULL for prompts */
    int64_t *offset;
    int64_t n, cap;       /* tokens */
    int64_t nseq, seqcap; /* sequences */
    int64_t itemcap;
} Store;

typedef struct Loading {
    Dataset *d;
    const DatasetOptions *o;
    Store *store;
    const char *path;
    int file;
    bool array;
    int64_t records; /* of all files */
    Incoming block[BLOCK];
    int n;
} Loading;

void dataset_options(DatasetOptions *o, const Config *c, const Tokenizer *t, Template tmpl,
                     int64_t context) {
    *o = (DatasetOptions){.tokenizer = t,
                          .tmpl = tmpl,
                          .context = context,
                          .on_long = c->data_on_long,
                          .on_bad = c->data_on_bad,
                          .max_bad = c->data_max_bad,
                          .max_records = c->data_max_records,
                          .field = {[FIELD_PROMPT] = c->data_field_prompt,
                                    [FIELD_COMPLETION] = c->data_field_completion,
                                    [FIELD_CHOSEN] = c->data_field_chosen,
                                    [FIELD_REJECTED] = c->data_field_rejected,
                                    [FIELD_MESSAGES] = c->data_field_messages}};
}

const char *const dataset_field_names[RECORD_FIELDS] = {"prompt", "completion", "chosen",
                                                        "rejected", "messages"};

const char *dataset_field(const DatasetOptions *o, RecordField f) {
    return o->field[f] && *o->field[f] ? o->field[f] : dataset_field_names[f];
}

/* --- one record ------------------------------------------------------------------------------- */

static bool unfinished(const Record *r, int i) { return r->unfinished && r->unfinished[i]; }

static int encode(Incoming *it, DatasetKind kind, const DatasetOptions *o) {
    const Record *r = &it->record;
    if (kind == DATASET_DEMOS) {
        int n = r->nprompt + 1;
        Message *m = xmalloc((size_t)n * sizeof *m);
        memcpy(m, r->prompt, (size_t)r->nprompt * sizeof *m);
        m[n - 1] = (Message){"assistant", r->answer[0]};
        int rc = template_conversation(o->tmpl, o->tokenizer, m, n, &it->prompt, &it->learn,
                                       &it->nprompt);
        free(m);
        if (rc < 0 || !unfinished(r, 0)) return rc;
        it->prompt.n = it->nprompt;
        TRY(template_unfinished(o->tmpl, o->tokenizer, r->answer[0], &it->prompt));
        it->learn = xrealloc(it->learn, (size_t)it->prompt.n);
        memset(it->learn + it->nprompt, 1, (size_t)(it->prompt.n - it->nprompt));
        return 0;
    }
    TRY(template_prompt(o->tmpl, o->tokenizer, r->prompt, r->nprompt, &it->prompt));
    it->nprompt = it->prompt.n;
    if (kind == DATASET_PROMPTS) return 0;
    it->answer = xcalloc((size_t)r->nanswer, sizeof *it->answer);
    for (int i = 0; i < r->nanswer; i++)
        TRY((unfinished(r, i) ? template_unfinished : template_completion)(
            o->tmpl, o->tokenizer, r->answer[i], &it->answer[i]));
    return 0;
}

/* Runs in a worker thread, whose stored message nobody else can see: it goes with the item. */
static void encode_item(Loading *l, Incoming *it) {
    if (it->rc >= 0) {
        it->rc = encode(it, l->d->kind, l->o);
        if (it->rc < 0) record_wrap(it->rc, l->path, l->array, it->line);
    }
    if (it->rc < 0 && !it->message) it->message = xstrdup(error_message());
}

static void item_free(Incoming *it) {
    for (int i = 0; it->answer && i < it->record.nanswer; i++) ids_free(&it->answer[i]);
    free(it->answer);
    record_free(&it->record);
    ids_free(&it->prompt);
    free(it->learn);
    free(it->message);
    *it = (Incoming){0};
}

/* --- committing it ---------------------------------------------------------------------------- */

static bool has_answers(DatasetKind kind) {
    return kind == DATASET_RANKED || kind == DATASET_LABELLED;
}

static void reserve(Dataset *d, Store *s, int64_t tokens) {
    if (s->n + tokens > s->cap) {
        s->cap = 2 * (s->n + tokens) + 4096;
        s->tokens = xrealloc(s->tokens, (size_t)s->cap * sizeof *s->tokens);
        if (d->kind != DATASET_PROMPTS) s->learn = xrealloc(s->learn, (size_t)s->cap);
    }
    if (s->nseq < s->seqcap) return;
    const size_t cap = (size_t)(s->seqcap = 2 * s->seqcap + 256);
    s->offset = xrealloc(s->offset, cap * sizeof *s->offset);
    d->seq = xrealloc(d->seq, cap * sizeof *d->seq);
    if (has_answers(d->kind)) d->rank = xrealloc(d->rank, cap * sizeof *d->rank);
}

/* A sequence of the prompt's tokens from `cut` on and, for ranked ones, an answer. */
static void add_sequence(Loading *l, const Incoming *it, int64_t cut, const IdList *answer,
                         int rank) {
    Dataset *d = l->d;
    Store *s = l->store;
    int64_t head = it->prompt.n - cut, n = head + (answer ? answer->n : 0);
    reserve(d, s, n);
    int32_t *tokens = s->tokens + s->n;
    memcpy(tokens, it->prompt.v + cut, (size_t)head * sizeof *tokens);
    if (answer && answer->n) memcpy(tokens + head, answer->v, (size_t)answer->n * sizeof *tokens);
    uint8_t *learn = s->learn ? s->learn + s->n : NULL;
    if (learn && it->learn) memcpy(learn, it->learn + cut, (size_t)n);
    if (learn && !it->learn) {
        memset(learn, 0, (size_t)head);
        memset(learn + head, 1, (size_t)(n - head));
    }
    d->seq[s->nseq] = (Sequence){.n = n, .prompt = it->nprompt - cut};
    if (d->rank) d->rank[s->nseq] = rank;
    s->offset[s->nseq++] = s->n;
    s->n += n;
    d->tokens += n;
    d->hash = hash_combine(d->hash, hash_bytes(tokens, (size_t)n * sizeof *tokens));
    d->hash = hash_combine(d->hash, (uint64_t)(it->nprompt - cut) << 32 | (uint64_t)rank);
    if (learn) d->hash = hash_combine(d->hash, hash_bytes(learn, (size_t)n));
}

static void add_item(Loading *l, const Incoming *it) {
    Dataset *d = l->d;
    Store *s = l->store;
    if (d->n == s->itemcap) {
        s->itemcap = 2 * s->itemcap + 256;
        size_t cap = (size_t)s->itemcap;
        d->first = xrealloc(d->first, (cap + 1) * sizeof *d->first);
        d->line = xrealloc(d->line, cap * sizeof *d->line);
        d->file = xrealloc(d->file, cap * sizeof *d->file);
        d->first[0] = 0;
    }
    d->line[d->n] = it->line;
    d->file[d->n] = l->file;
    d->first[++d->n] = s->nseq;
}

/* Too many tokens under on_long: stop. */
static int stop_long(const Loading *l, const Incoming *it, int64_t n, int64_t limit) {
    int rc = error_set(ERR_DATA,
                       "%lld tokens, %lld fit; shorten the record or set data.on_long to drop or "
                       "truncate_left",
                       (long long)n, (long long)limit);
    return record_wrap(rc, l->path, l->array, it->line);
}

/* Tokens of the longest record that is taken. */
static int64_t longest(const Loading *l) {
    const DatasetOptions *o = l->o;
    if (l->d->kind != DATASET_PROMPTS) return o->context;
    return o->max_prompt > 0 ? o->max_prompt : o->context - 1;
}

/* Demonstrations and prompts. At least one token of the prompt stays. */
static int commit_single(Loading *l, const Incoming *it) {
    const DatasetOptions *o = l->o;
    int64_t limit = longest(l), n = it->prompt.n, cut = 0;
    if (n > limit) {
        if (o->on_long == ON_LONG_STOP) return stop_long(l, it, n, limit);
        cut = n - limit;
        if (o->on_long == ON_LONG_DROP || cut >= it->nprompt) {
            l->d->too_long++;
            return 0;
        }
        l->d->truncated++;
    }
    add_sequence(l, it, cut, NULL, 0);
    add_item(l, it);
    return 0;
}

/* The ranks of the kept answers without gaps. */
static void close_ranks(const int32_t *rank, const bool *kept, int k, int32_t *out) {
    AUTOFREE double *score = xmalloc((size_t)k * sizeof *score);
    AUTOFREE int32_t *dense = xmalloc((size_t)k * sizeof *dense);
    int n = 0;
    for (int i = 0; i < k; i++)
        if (kept[i]) score[n++] = -(double)rank[i];
    record_ranks(score, n, dense);
    for (int i = 0, j = 0; i < k; i++) out[i] = kept[i] ? dense[j++] : 0;
}

/* The answers that fit; all with the same prompt, so it is cut for the longest of them. A group in
 * which fewer than two fit is dropped (labelled ones: in which none does). */
static int commit_ranked(Loading *l, const Incoming *it) {
    const DatasetOptions *o = l->o;
    const Record *r = &it->record;
    const bool labelled = l->d->kind == DATASET_LABELLED;
    int k = r->nanswer, nkept = 0, least = labelled ? 1 : 2;
    int64_t head = it->prompt.n, room = o->on_long == ON_LONG_TRUNCATE_LEFT ? 1 : head, longest = 0;
    bool *kept = xcalloc((size_t)k, sizeof *kept);
    int32_t *rank = xmalloc((size_t)k * sizeof *rank);
    int rc = 0;
    for (int i = 0; i < k; i++) {
        int64_t n = it->answer[i].n;
        if (o->on_long == ON_LONG_STOP && head + n > o->context) {
            rc = stop_long(l, it, head + n, o->context);
            goto done;
        }
        kept[i] = room + n <= o->context;
        if (kept[i]) nkept++;
        if (kept[i] && n > longest) longest = n;
    }
    l->d->too_long += nkept < least ? k : k - nkept;
    if (nkept < least) goto done;
    int64_t cut = head + longest > o->context ? head + longest - o->context : 0;
    if (cut > 0) l->d->truncated++;
    memcpy(rank, r->rank, (size_t)k * sizeof *rank);
    if (!labelled) close_ranks(r->rank, kept, k, rank);
    for (int i = 0; i < k; i++)
        if (kept[i]) add_sequence(l, it, cut, &it->answer[i], rank[i]);
    add_item(l, it);
done:
    free(kept);
    free(rank);
    return rc;
}

/* Counts what a record teaches that nobody means to teach. */
static void look_at(Dataset *d, const Record *r) {
    bool empty = false, equal = false, returns = false;
    for (int i = 0; i < r->nanswer; i++) {
        empty = empty || !*r->answer[i];
        returns = returns || strchr(r->answer[i], '\r');
        for (int j = 0; r->rank && j < i && !equal; j++)
            equal = r->rank[i] != r->rank[j] && strcmp(r->answer[i], r->answer[j]) == 0;
    }
    for (int i = 0; i < r->nprompt; i++) returns = returns || strchr(r->prompt[i].content, '\r');
    d->empty += empty;
    d->equal += equal;
    d->returns += returns;
}

static int commit(Loading *l, const Incoming *it) {
    Dataset *d = l->d;
    if (it->rc >= 0) {
        look_at(d, &it->record);
        return has_answers(d->kind) ? commit_ranked(l, it) : commit_single(l, it);
    }
    if (it->rc != ERR_DATA || l->o->on_bad == ON_BAD_STOP)
        return error_set(it->rc, "%s", it->message);
    return record_skip(it->message, &d->bad, l->o->max_bad, "record", "data.max_bad");
}

/* --- files ------------------------------------------------------------------------------------ */

static int flush(Loading *l) {
    int rc = 0;
#pragma omp parallel for schedule(dynamic, 8)
    for (int i = 0; i < l->n; i++) encode_item(l, &l->block[i]);
    for (int i = 0; i < l->n; i++) {
        if (rc == 0) rc = commit(l, &l->block[i]);
        item_free(&l->block[i]);
    }
    l->n = 0;
    return rc;
}

static int load_file(Loading *l, const char *path) {
    JsonRecords *records;
    TRY(json_records_open(&records, path));
    l->path = path;
    l->array = json_records_is_array(records);
    int rc = 0;
    for (int64_t n = 0; l->o->max_records == 0 || n < l->o->max_records; n++) {
        json_t *json = NULL;
        rc = json_records_next(records, &json);
        if (rc == 0 || (rc < 0 && rc != ERR_DATA)) break;
        Incoming *it = &l->block[l->n++];
        it->line = json_records_line(records);
        it->rc = rc;
        if (rc > 0) {
            it->rc = record_parse(&it->record, l->d->kind, json, l->o);
            if (it->rc < 0) record_wrap(it->rc, path, l->array, it->line);
        }
        if (it->rc < 0) it->message = xstrdup(error_message());
        l->records++;
        if (l->n == BLOCK) TRY_GOTO(done, flush(l));
    }
    if (rc >= 0 || rc == ERR_DATA) {
        rc = flush(l);
    } else { /* the records before it may have an error of their own, which comes first */
        char *message = xstrdup(error_message());
        int earlier = flush(l);
        rc = earlier < 0 ? earlier : error_set(rc, "%s", message);
        free(message);
    }
done:
    json_records_close(&records);
    return rc;
}

static int nothing_usable(const Loading *l, const char *names) {
    const Dataset *d = l->d;
    if (l->records == 0)
        return error_set(ERR_DATA, "%s: holds no record; expected JSON lines or a JSON array",
                         names);
    return error_set(ERR_DATA,
                     "%s: no usable record among %lld: %lld malformed, %lld too long: %lld tokens "
                     "fit%s",
                     names, (long long)l->records, (long long)d->bad, (long long)d->too_long,
                     (long long)longest(l),
                     d->kind == DATASET_PROMPTS ? " before the response" : "");
}

static void warn(const Loading *l, const char *names) {
    const Dataset *d = l->d;
    const int64_t all = l->records - d->bad;
    record_warn(names, d->empty, all, "record",
                "an empty answer: they teach to say nothing; leave them out unless that is meant");
    record_warn(names, d->equal, all, "record",
                "equal answers of which one is the better: they teach nothing; leave them out, or "
                "let them tie");
    record_warn(names, d->returns, all, "record", RECORD_RETURNS);
    const int64_t sequences = l->store->nseq + d->too_long;
    if (10 * d->too_long > sequences && log_my_rank() == 0)
        log_warn("%s: %lld of %lld %s (%.0f %%) are longer than the %lld %s that fit%s, and left "
                 "out: set data.on_long to truncate_left, shorten them, or take a model with a "
                 "larger context",
                 names, (long long)d->too_long, (long long)sequences,
                 has_answers(d->kind) ? "answers" : "records",
                 100 * (double)d->too_long / (double)sequences, (long long)longest(l),
                 l->o->bytes ? "bytes" : "tokens",
                 d->kind == DATASET_PROMPTS ? " before a response" : "");
}

static int count_pairs(Dataset *d, const char *names) {
    for (int64_t i = 0; i < d->n; i++)
        for (int64_t s = d->first[i]; s < d->first[i + 1]; s++)
            for (int64_t r = d->first[i]; r < s; r++) d->pairs += d->rank[r] != d->rank[s];
    if (d->pairs > 0) return 0;
    return error_set(ERR_DATA,
                     "%s: no two answers of any of its %lld ranking%s differ in rank; expected at "
                     "least one pair of a better and a worse one",
                     names, (long long)d->n, TEXT_S(d->n));
}

int dataset_load(Dataset *out, DatasetKind kind, const StrList *files, const DatasetOptions *o) {
    *out = (Dataset){.kind = kind};
    Loading *l = xcalloc(1, sizeof *l);
    l->d = out;
    l->o = o;
    out->priv = l->store = xcalloc(1, sizeof *l->store);
    AUTOFREE char *names =
        xasprintf("%s%s", files->n > 0 ? files->v[0] : "no file", files->n > 1 ? ", ..." : "");
    int rc = 0;
    for (int i = 0; i < files->n; i++) {
        l->file = i;
        TRY_GOTO(done, load_file(l, files->v[i]));
    }
    if (out->n == 0) TRY_GOTO(done, nothing_usable(l, names));
    if (kind == DATASET_RANKED) TRY_GOTO(done, count_pairs(out, names));
    warn(l, names);
    for (int64_t i = 0; i < l->store->nseq; i++) {
        int64_t at = l->store->offset[i];
        out->seq[i].tokens = l->store->tokens + at;
        out->seq[i].learn = l->store->learn ? l->store->learn + at : NULL;
    }
done:
    free(l);
    if (rc < 0) dataset_free(out);
    return rc;
}

void dataset_best(Dataset *out, const Dataset *d) {
    *out = (Dataset){.n = d->n, .seq = xmalloc((size_t)(d->n + 1) * sizeof *d->seq)};
    for (int64_t i = 0; i < d->n; i++) {
        int64_t best = d->first[i];
        for (int64_t s = best; s < d->first[i + 1]; s++)
            if (d->rank[s] < d->rank[best]) best = s;
        out->seq[i] = d->seq[best];
        out->tokens += d->seq[best].n;
    }
}

void dataset_pairs(Dataset *out, const Dataset *d) {
    const int64_t n = d->pairs;
    *out = (Dataset){.kind = d->kind,
                     .n = n,
                     .pairs = n,
                     .hash = d->hash,
                     .first = xcalloc((size_t)n + 1, sizeof *out->first),
                     .seq = xcalloc((size_t)(2 * n) + 1, sizeof *out->seq),
                     .rank = xcalloc((size_t)(2 * n) + 1, sizeof *out->rank),
                     .line = xcalloc((size_t)n + 1, sizeof *out->line),
                     .file = xcalloc((size_t)n + 1, sizeof *out->file)};
    int64_t k = 0;
    for (int64_t i = 0; i < d->n; i++)
        for (int64_t a = d->first[i]; a < d->first[i + 1]; a++)
            for (int64_t b = d->first[i]; b < d->first[i + 1]; b++) {
                if (d->rank[a] >= d->rank[b]) continue;
                out->first[k + 1] = 2 * k + 2;
                out->seq[2 * k] = d->seq[a];
                out->seq[2 * k + 1] = d->seq[b];
                out->rank[2 * k] = 1;
                out->rank[2 * k + 1] = 2;
                out->line[k] = d->line[i];
                out->file[k++] = d->file[i];
                out->tokens += d->seq[a].n + d->seq[b].n;
            }
    CHECK(k == n, "%lld pairs of %lld", (long long)k, (long long)n);
}

void dataset_free(Dataset *d) {
    Store *s = d->priv;
    if (s) {
        free(s->tokens);
        free(s->learn);
        free(s->offset);
        free(s);
    }
    free(d->first);
    free(d->seq);
    free(d->rank);
    free(d->line);
    free(d->file);
    *d = (Dataset){0};
}
