/* rollout.c: the episodes of one PPO iteration. See rollout.h. */
#include "rlhf/rollout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "data/record_writer.h"

/* Room for n episodes with the given lengths of prompt and response; scalars are cleared. */
static void allocate(Episodes *e, int64_t n, const int64_t *prompt, const int64_t *response) {
    *e = (Episodes){.n = n};
    e->start = xcalloc((size_t)n + 1, sizeof *e->start);
    e->first = xcalloc((size_t)n + 1, sizeof *e->first);
    e->prompt = xcalloc((size_t)n + 1, sizeof *e->prompt);
    e->item = xcalloc((size_t)n + 1, sizeof *e->item);
    e->stopped = xcalloc((size_t)n + 1, 1);
    e->score = xcalloc((size_t)n + 1, sizeof *e->score);
    for (int64_t i = 0; i < n; i++) {
        e->prompt[i] = prompt[i];
        e->start[i + 1] = e->start[i] + prompt[i] + response[i];
        e->first[i + 1] = e->first[i] + response[i];
    }
    e->tokens = xcalloc((size_t)e->start[n] + 1, sizeof *e->tokens);
    float **arrays[] = {&e->sampled_logp, &e->logp,   &e->ref_logp,  &e->entropy,
                        &e->value,        &e->reward, &e->advantage, &e->ret};
    for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++)
        *arrays[a] = xcalloc((size_t)e->first[n] + 1, sizeof(float));
}

void rollout_free(Episodes *e) {
    void *all[] = {e->start,   e->first,  e->prompt,       e->item,      e->stopped,
                   e->score,   e->tokens, e->sampled_logp, e->logp,      e->ref_logp,
                   e->entropy, e->value,  e->reward,       e->advantage, e->ret};
    for (size_t a = 0; a < sizeof all / sizeof *all; a++) free(all[a]);
    *e = (Episodes){0};
}

/* Copies the sampled part of episode i of `from` to episode j. */
static void copy_episode(Episodes *to, int64_t j, const Episodes *from, int64_t i) {
    const int64_t all = from->start[i + 1] - from->start[i], n = rollout_length(from, i);
    memcpy(to->tokens + to->start[j], from->tokens + from->start[i],
           (size_t)all * sizeof *to->tokens);
    memcpy(to->sampled_logp + to->first[j], from->sampled_logp + from->first[i],
           (size_t)n * sizeof *to->sampled_logp);
    to->item[j] = from->item[i];
    to->stopped[j] = from->stopped[i];
    to->score[j] = from->score[i];
}

void rollout_append(Episodes *to, const Episodes *from, const int64_t *pick, int64_t n) {
    const int64_t before = to->n, all = before + n;
    AUTOFREE int64_t *prompt = xmalloc((size_t)(all + 1) * sizeof *prompt);
    AUTOFREE int64_t *response = xmalloc((size_t)(all + 1) * sizeof *response);
    for (int64_t i = 0; i < all; i++) {
        const Episodes *e = i < before ? to : from;
        const int64_t k = i < before ? i : pick[i - before];
        prompt[i] = e->prompt[k];
        response[i] = rollout_length(e, k);
    }
    Episodes joined;
    allocate(&joined, all, prompt, response);
    for (int64_t i = 0; i < before; i++) copy_episode(&joined, i, to, i);
    for (int64_t i = 0; i < n; i++) copy_episode(&joined, before + i, from, pick[i]);
    rollout_free(to);
    *to = joined;
}

/* What ranks exchange: for each response its length with the stop flag in the lowest bit, its
 * tokens, its log-probabilities; all 4 bytes wide. */
static int32_t *serialise(const DecodeResult *r, size_t *words) {
    *words = 0;
    for (int64_t i = 0; i < r->n; i++) *words += 1 + 2 * (size_t)r->v[i].n;
    int32_t *out = xmalloc((*words + 1) * sizeof *out), *w = out;
    for (int64_t i = 0; i < r->n; i++) {
        const size_t len = (size_t)r->v[i].n;
        *w++ = (int32_t)(2 * len + r->v[i].stopped);
        memcpy(w, r->v[i].tokens, len * sizeof *w);
        memcpy(w + len, r->v[i].logp, len * sizeof *w);
        w += 2 * len;
    }
    return out;
}

static void assemble(Episodes *e, const Dataset *prompts, const int64_t *item, int64_t n,
                     const int32_t *words) {
    AUTOFREE int64_t *prompt = xmalloc((size_t)(n + 1) * sizeof *prompt);
    AUTOFREE int64_t *response = xmalloc((size_t)(n + 1) * sizeof *response);
    const int32_t *w = words;
    for (int64_t i = 0; i < n; i++) {
        prompt[i] = prompts->seq[prompts->first[item[i]]].n;
        response[i] = *w / 2;
        w += 1 + 2 * response[i];
    }
    allocate(e, n, prompt, response);
    w = words;
    for (int64_t i = 0; i < n; i++) {
        const size_t len = (size_t)response[i];
        int32_t *tokens = e->tokens + e->start[i];
        e->stopped[i] = *w++ & 1;
        e->item[i] = item[i];
        memcpy(tokens, prompts->seq[prompts->first[item[i]]].tokens,
               (size_t)prompt[i] * sizeof *tokens);
        memcpy(tokens + prompt[i], w, len * sizeof *tokens);
        memcpy(e->sampled_logp + e->first[i], w + len, len * sizeof(float));
        w += 2 * len;
    }
}

int rollout_sample(Episodes *e, Gpt *policy, const Dataset *prompts, const int64_t *item, int64_t n,
                   uint64_t first_id, const DecodeOptions *o, Comm *c) {
    int64_t begin, end, total = 0;
    comm_share(n, comm_rank(c), comm_size(c), &begin, &end);
    const int64_t mine = end - begin;
    AUTOFREE int64_t *start = xcalloc((size_t)mine + 1, sizeof *start);
    AUTOFREE uint64_t *id = xcalloc((size_t)mine + 1, sizeof *id);
    for (int64_t i = 0; i < mine; i++) {
        total += prompts->seq[prompts->first[item[begin + i]]].n;
        start[i + 1] = total;
        id[i] = first_id + (uint64_t)(begin + i);
    }
    AUTOFREE int32_t *tokens = xmalloc((size_t)(total + 1) * sizeof *tokens);
    for (int64_t i = 0; i < mine; i++)
        memcpy(tokens + start[i], prompts->seq[prompts->first[item[begin + i]]].tokens,
               (size_t)(start[i + 1] - start[i]) * sizeof *tokens);

    DecodeResult r = {0};
    int rc = comm_agree(c, decode(&r, policy, tokens, start, mine, id, o));
    if (rc == 0) {
        size_t words;
        AUTOFREE size_t *offset = xmalloc((size_t)(comm_size(c) + 1) * sizeof *offset);
        AUTOFREE int32_t *out = serialise(&r, &words);
        AUTOFREE char *all = NULL;
        comm_allgather_bytes(c, out, words * sizeof *out, &all, offset);
        assemble(e, prompts, item, n, (const int32_t *)(void *)all);
    }
    decode_free(&r);
    return rc;
}

/* --- replay ----------------------------------------------------------------------------------- */

static json_t *ids_to_json(const int32_t *v, int64_t n) {
    json_t *a = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(a, json_integer(v[i]));
    return a;
}

int rollout_write(const Episodes *e, const char *path) {
    RecordWriter w;
    TRY(record_writer_open(&w, path));
    for (int64_t i = 0; i < e->n; i++) {
        const int32_t *t = e->tokens + e->start[i];
        json_t *line = json_pack("{s:o, s:o, s:b}", "prompt", ids_to_json(t, e->prompt[i]),
                                 "response", ids_to_json(t + e->prompt[i], rollout_length(e, i)),
                                 "stopped", e->stopped[i]);
        record_writer_put(&w, line);
        json_decref(line);
    }
    return record_writer_close(&w, 0);
}

static bool ids_valid(const json_t *a, int64_t vocab) {
    for (size_t i = 0; i < json_array_size(a); i++) {
        const json_t *v = json_array_get(a, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= vocab)
            return false;
    }
    return true;
}

static int check_record(const json_t *rec, const JsonRecords *r, int64_t vocab, int64_t context) {
    const json_t *p = json_object_get(rec, "prompt"), *s = json_object_get(rec, "response");
    if (!json_is_array(p) || !json_is_array(s) || json_array_size(p) < 1 || json_array_size(s) < 1)
        return error_set(ERR_DATA,
                         "%s:%" PRId64 ": expected \"prompt\" and \"response\" as lists of ids",
                         json_records_path(r), json_records_line(r));
    if ((int64_t)(json_array_size(p) + json_array_size(s)) > context)
        return error_set(ERR_DATA,
                         "%s:%" PRId64 ": the episode is longer than the context of %" PRId64,
                         json_records_path(r), json_records_line(r), context);
    if (!ids_valid(p, vocab) || !ids_valid(s, vocab))
        return error_set(ERR_DATA, "%s:%" PRId64 ": ids must lie in 0..%" PRId64,
                         json_records_path(r), json_records_line(r), vocab - 1);
    if (!json_is_boolean(json_object_get(rec, "stopped")))
        return error_set(ERR_DATA, "%s:%" PRId64 ": expected \"stopped\" as true or false",
                         json_records_path(r), json_records_line(r));
    return 0;
}

static void fill_replay(Episodes *e, json_t *const *rec, int64_t n) {
    AUTOFREE int64_t *prompt = xmalloc((size_t)(n + 1) * sizeof *prompt);
    AUTOFREE int64_t *response = xmalloc((size_t)(n + 1) * sizeof *response);
    for (int64_t i = 0; i < n; i++) {
        prompt[i] = (int64_t)json_array_size(json_object_get(rec[i], "prompt"));
        response[i] = (int64_t)json_array_size(json_object_get(rec[i], "response"));
    }
    allocate(e, n, prompt, response);
    for (int64_t i = 0; i < n; i++) {
        int32_t *t = e->tokens + e->start[i];
        const json_t *p = json_object_get(rec[i], "prompt");
        const json_t *r = json_object_get(rec[i], "response");
        for (int64_t k = 0; k < prompt[i]; k++)
            *t++ = (int32_t)json_integer_value(json_array_get(p, (size_t)k));
        for (int64_t k = 0; k < response[i]; k++)
            *t++ = (int32_t)json_integer_value(json_array_get(r, (size_t)k));
        e->stopped[i] = json_is_true(json_object_get(rec[i], "stopped"));
    }
}

int rollout_read(Episodes *e, const char *path, int64_t n, int64_t vocab, int64_t context) {
    JsonRecords *r;
    TRY(json_records_open(&r, path));
    json_t **rec = xcalloc((size_t)n + 1, sizeof *rec);
    int64_t got = 0;
    int rc = 0;
    while (got <= n && (rc = json_records_next(r, &rec[got])) > 0) {
        rc = check_record(rec[got++], r, vocab, context);
        if (rc < 0) break;
    }
    if (rc >= 0 && got != n)
        rc = error_set(ERR_DATA, "%s: %s%" PRId64 " episodes, ppo.batch asks for %" PRId64, path,
                       got > n ? "more than " : "", got > n ? n : got, n);
    if (rc >= 0) fill_replay(e, rec, n);
    for (int64_t i = 0; i < got; i++) json_decref(rec[i]);
    free(rec);
    json_records_close(&r);
    return rc < 0 ? rc : 0;
}
