/* score.c: a reward model at work. See score.h. */
#include "rlhf/score.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/tape.h"
#include "dist/watchdog.h"
#include "train/evaluate.h"

void score_sequences(Gpt *rm, const Sequence *q, int64_t n, int64_t micro_tokens, float *r) {
    const BatchItems items = evaluate_items(q);
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    Batch b = {0};
    for (int64_t i = 0; i < n;) {
        batch_clear(&b);
        batch_fill(&b, &items, &i, n, micro_tokens);
        watchdog_beat();
        const GptRows last = gpt_last_rows(tape, &b);
        const Tensor *v = gpt_values(rm, tape, &b, &last);
        for (int64_t j = 0; j < b.nseq; j++) r[i - b.nseq + j] = v->data[j];
        tape_reset(tape);
    }
    batch_free(&b);
    tape_close(&tape);
    arena_free(&arena);
}

void score_shared(Gpt *rm, const Sequence *q, int64_t n, int64_t micro_tokens, Comm *c, float *r) {
    int64_t begin, end;
    watchdog_enter(PHASE_EVAL);
    comm_share(n, comm_rank(c), comm_size(c), &begin, &end);
    memset(r, 0, (size_t)n * sizeof *r);
    score_sequences(rm, q + begin, end - begin, micro_tokens, r + begin);
    comm_sum_f32(c, r, n); /* the others have 0 */
}

void score_rankings(Gpt *rm, const Dataset *d, int64_t records, int64_t micro_tokens, Comm *c,
                    RankStats *s) {
    const int64_t n = records > 0 && records < d->n ? records : d->n, *first = d->first;
    AUTOFREE float *r = xmalloc((size_t)(first[n] + 1) * sizeof *r);
    *s = (RankStats){0};
    score_shared(rm, d->seq, first[n], micro_tokens, c, r);
    for (int64_t i = 0; i < n; i++)
        rank_stats_add(s, r + first[i], d->rank + first[i], first[i + 1] - first[i]);
}

void score_samples(Gpt *rm, const Sequence *q, const unsigned char *ended, int64_t n,
                   int64_t micro_tokens, double no_stop_score, float *r) {
    score_sequences(rm, q, n, micro_tokens, r);
    for (int64_t i = 0; i < n; i++)
        if (!ended[i]) r[i] = (float)no_stop_score;
}

void score_normalise(Gpt *rm, const Sequence *q, int64_t n, int64_t micro_tokens, Comm *c,
                     RankStats *s) {
    static const int32_t alone = 1; /* a group of one, without pairs */
    float *r = xmalloc((size_t)(n + 1) * sizeof *r);
    score_shared(rm, q, n, micro_tokens, c, r);
    *s = (RankStats){0};
    for (int64_t i = 0; i < n; i++) rank_stats_add(s, r + i, &alone, 1);
    free(r);
    rm->head_b->data[0] -= (real)rank_mean(s);
}

/* --- of records ---------------------------------------------------------------------------------- */

enum { SCORE_MICRO_TOKENS = 4096 };

/* The ids of a conversation that a record's "prompt" holds. */
static int prompt_ids(const Loaded *m, const json_t *prompt, IdList *ids) {
    const size_t n = json_is_array(prompt) ? json_array_size(prompt) : 1;
    AUTOFREE Message *msg = xcalloc(n, sizeof *msg);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(prompt, i);
        msg[i] = (Message){"user", json_string_value(prompt)};
        if (!json_is_array(prompt) && !json_is_string(prompt))
            return error_set(ERR_DATA, "\"prompt\" must be a text or messages");
        if (json_is_array(prompt)) {
            TRY(json_get_str(one, "role", &msg[i].role));
            TRY(json_get_str(one, "content", &msg[i].content));
        }
    }
    return template_prompt(m->tmpl, m->tokenizer, msg, (int)n, ids);
}

int score_completions(const Loaded *m, const json_t *prompt, const json_t *completions, float *r) {
    const int k = (int)json_array_size(completions);
    AUTOFREE IdList *ids = xcalloc((size_t)k + 1, sizeof *ids);
    AUTOFREE Sequence *q = xcalloc((size_t)k + 1, sizeof *q);
    int rc = 0;
    for (int i = 0; i < k && rc >= 0; i++) {
        rc = prompt_ids(m, prompt, &ids[i]);
        const int64_t n = ids[i].n;
        const char *text = json_string_value(json_array_get(completions, (size_t)i));
        if (rc >= 0) rc = template_completion(m->tmpl, m->tokenizer, text, &ids[i]);
        q[i] = (Sequence){.tokens = ids[i].v, .n = ids[i].n, .prompt = n};
        if (rc >= 0 && ids[i].n > m->gpt->cfg.context)
            rc = error_set(ERR_DATA, "%" PRId64 " tokens, the reward model's context is %" PRId64,
                           ids[i].n, m->gpt->cfg.context);
    }
    if (rc >= 0) score_sequences(m->gpt, q, k, SCORE_MICRO_TOKENS, r);
    for (int i = 0; i < k; i++) ids_free(&ids[i]);
    return rc;
}
