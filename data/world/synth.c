/* synth.c: which record goes into which file. A candidate is made from (seed, file, index,
 * attempt); it belongs to the file whose share of the hash range its prompt's hash falls into;
 * attempts go on until one belongs here. So no prompt can be in two files, and the n-th record of
 * a file never depends on how many records another file has. What is held out comes into the
 * prompts of evaluation alone, and none of those comes twice. */
#include "data/world/synth.h"

#include "base/error.h"
#include "base/file.h"
#include "data/world/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

const char *const synth_quality_names[QUALITY_COUNT] = {"ideal", "verbose", "incomplete", "madeup",
                                                        "wrong", "refuse",  "comply",     "rude"};

SynthOptions synth_defaults(void) {
    return (SynthOptions){
        .seed = 1,
        .documents = 64000,
        .documents_heldout = 500,
        .sft = 12000,
        .sft_heldout = 500,
        .compare = 2000,
        .compare_heldout = 500,
        .ppo = 16000,
        .eval = 600,
        .answer = {[QUALITY_IDEAL] = 45,
                   [QUALITY_VERBOSE] = 26,
                   [QUALITY_INCOMPLETE] = 5,
                   [QUALITY_MADEUP] = 7,
                   [QUALITY_WRONG] = 3,
                   [QUALITY_REFUSE] = 2,
                   [QUALITY_RUDE] = 12},
        .refuse = {[QUALITY_IDEAL] = 40,
                   [QUALITY_VERBOSE] = 10,
                   [QUALITY_INCOMPLETE] = 5,
                   [QUALITY_COMPLY] = 25,
                   [QUALITY_RUDE] = 20},
    };
}

/* Shares of the BUCKETS, of prompts' files and of documents' files. */
typedef struct SynthShare {
    const char *file;
    int from, to;
} SynthShare;
static const SynthShare share_primer = {"primer.jsonl", 0, BUCKETS},
                        share_documents = {"documents.jsonl", 0, DOCUMENT_BUCKETS},
                        share_documents_heldout = {"documents_heldout.jsonl", DOCUMENT_BUCKETS,
                                                   BUCKETS},
                        share_sft = {"sft.jsonl", 0, 20},
                        share_sft_heldout = {"sft_heldout.jsonl", 20, 24},
                        share_compare = {"compare_prompts.jsonl", 24, 32},
                        share_compare_heldout = {"compare_heldout.jsonl", 32, 36},
                        share_ppo = {"ppo_prompts.jsonl", 36, 58},
                        share_eval = {"eval_prompts.jsonl", 58, BUCKETS};

static uint64_t hash_of(const Prose *before, const Prose *t) {
    return XXH3_64bits_withSeed(t->s, t->n, before->n ? XXH3_64bits(before->s, before->n) : 0);
}

static bool belongs(const SynthShare *s, int bucket) { return bucket >= s->from && bucket < s->to; }

/* The records of one file; seen: the hashes of its prompts so far, or NULL where one may come
 * again. */
typedef struct SynthFile {
    const SynthOptions *o;
    const SynthShare *share;
    uint64_t *seen;
    int64_t nseen;
} SynthFile;

static bool is_new(SynthFile *f, uint64_t hash) {
    if (!f->seen) return true;
    for (int64_t i = 0; i < f->nseen; i++)
        if (f->seen[i] == hash) return false;
    f->seen[f->nseen++] = hash;
    return true;
}

/* {"text"} of document `index`. The file is that of the story: its facts in this order are news to
 * a model that was trained on other files. */
static json_t *document(SynthFile *f, uint64_t index) {
    Prose t;
    for (uint64_t attempt = 0;; attempt++) {
        Dice r = dice_make(f->o->seed, f->share->file, index, attempt);
        size_t story;
        world_document(&r, &t, &story);
        if (belongs(f->share, world_bucket(t.s, story))) return json_pack("{s:s}", "text", t.s);
    }
}

static json_t *primer(SynthFile *f, uint64_t index) {
    Prose t;
    Dice r = dice_make(f->o->seed, f->share->file, index, 0);
    world_primer(&r, &t);
    return json_pack("{s:s}", "text", t.s);
}

/* The text, or the messages of a conversation. */
static json_t *prompt_json(const WorldTask *t) {
    if (!t->before.n) return json_string(t->prompt.s);
    return json_pack("[{s:s,s:s},{s:s,s:s},{s:s,s:s}]", "role", "user", "content", t->before.s,
                     "role", "assistant", "content", t->reply.s, "role", "user", "content",
                     t->prompt.s);
}

/* Half of the prompts of evaluation that have something held out are left out again. */
static bool wanted(const SynthShare *s, const WorldTask *t, Dice *r) {
    if (s == &share_eval) return !t->held || dice_percent(r, 50);
    return !t->held && !t->held_beside;
}

static json_t *prompt(SynthFile *f, uint64_t index) {
    const SynthShare *s = f->share;
    bool demonstrate = s == &share_sft || s == &share_sft_heldout;
    WorldTask t;
    Prose completion;
    for (uint64_t attempt = 0;; attempt++) {
        Dice r = dice_make(f->o->seed, s->file, index, attempt);
        task_make(&r, &t);
        const uint64_t hash = hash_of(&t.before, &t.prompt);
        if (!belongs(s, (int)(hash >> 58)) || !wanted(s, &t, &r) || !is_new(f, hash)) continue;
        json_t *record = json_pack("{s:o}", "prompt", prompt_json(&t));
        if (demonstrate) {
            SynthQuality q = (SynthQuality)dice_weighted(
                &r, t.gold.act == ACT_REFUSE ? f->o->refuse : f->o->answer, QUALITY_COUNT);
            task_demonstrate(&r, &t, q, &completion);
            json_object_set_new(record, "completion", json_string(completion.s));
            json_object_set_new(record, "quality", json_string(synth_quality_names[q]));
        }
        json_object_set_new(record, "gold", gold_json(&t.gold));
        return record;
    }
}

static int write_file(const char *dir, const SynthOptions *o, const SynthShare *s, int64_t n,
                      json_t *(*make)(SynthFile *, uint64_t)) {
    char *path = file_join(dir, s->file);
    SynthFile file = {.o = o, .share = s};
    if (s == &share_eval || s == &share_compare_heldout || s == &share_sft_heldout)
        file.seen = xmalloc((size_t)(n + 1) * sizeof *file.seen);
    int rc = 0;
    FILE *f = fopen(path, "w");
    if (!f) {
        rc = error_set(ERR_IO, "%s: cannot write: %s", path, strerror(errno));
        goto done;
    }
    for (int64_t i = 0; i < n && !ferror(f); i++) {
        json_t *record = make(&file, (uint64_t)i);
        CHECK(record, "no record");
        if (json_dumpf(record, f, JSON_COMPACT) == 0) fputc('\n', f);
        json_decref(record);
    }
    if (ferror(f) | fclose(f)) /* both are evaluated: the file must be closed in any case */
        rc = error_set(ERR_IO, "%s: cannot write: %s", path, strerror(errno));
done:
    free(file.seen);
    free(path);
    return rc;
}

static int check_options(const SynthOptions *o) {
    const int64_t sizes[] = {o->primer,      o->documents, o->documents_heldout, o->sft,
                             o->sft_heldout, o->compare,   o->compare_heldout,   o->ppo,
                             o->eval};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 0)
            return error_set(ERR_CONFIG, "synth: a size is %lld, expected 0 or more",
                             (long long)sizes[i]);
    const double *const weights[] = {o->answer, o->refuse};
    for (int w = 0; w < 2; w++) {
        double sum = 0;
        for (int i = 0; i < QUALITY_COUNT; i++) {
            if (!(weights[w][i] >= 0 && weights[w][i] < 1e9))
                return error_set(ERR_CONFIG,
                                 "synth: the weight of quality \"%s\" is %g, expected 0 "
                                 "or more",
                                 synth_quality_names[i], weights[w][i]);
            sum += weights[w][i];
        }
        if (sum <= 0)
            return error_set(ERR_CONFIG,
                             "synth: all qualities of %s have weight 0, expected one "
                             "above 0",
                             w ? "refuse" : "answer");
    }
    return 0;
}

int synth_write(const char *dir, const SynthOptions *o) {
    TRY(check_options(o));
    TRY(file_make_dirs(dir));
    if (o->primer) TRY(write_file(dir, o, &share_primer, o->primer, primer));
    TRY(write_file(dir, o, &share_documents, o->documents, document));
    TRY(write_file(dir, o, &share_documents_heldout, o->documents_heldout, document));
    TRY(write_file(dir, o, &share_sft, o->sft, prompt));
    TRY(write_file(dir, o, &share_sft_heldout, o->sft_heldout, prompt));
    TRY(write_file(dir, o, &share_compare, o->compare, prompt));
    TRY(write_file(dir, o, &share_compare_heldout, o->compare_heldout, prompt));
    TRY(write_file(dir, o, &share_ppo, o->ppo, prompt));
    return write_file(dir, o, &share_eval, o->eval, prompt);
}

/* --- examples --------------------------------------------------------------------------------- */

static void print_example(FILE *out, const WorldTask *t) {
    fprintf(out, "| %s%s%s | ", t->gold.family, t->held ? ", held out: " : "", t->gold.held);
    if (t->before.n) fprintf(out, "%s — *%s* — ", t->before.s, t->reply.s);
    fprintf(out, "%s | %s | %s |\n", t->prompt.s, t->ideal.s, t->wrong.s);
}

void synth_examples(FILE *out) {
    enum { TRIES = 4000, EACH = 2 };
    WorldTask *t = xmalloc(sizeof *t);
    fprintf(out, "| family | prompt | ideal | wrong |\n|---|---|---|---|\n");
    for (int f = 0; f < task_families; f++)
        for (int held = 0; held < 2; held++) {
            int shown = 0;
            for (uint64_t i = 0; i < TRIES && shown < (held ? 1 : EACH); i++) {
                Dice r = dice_make(1, "examples", i, 0);
                task_make(&r, t);
                if (strcmp(t->gold.family, task_family(f)) != 0 || (t->held > 0) != held) continue;
                /* one of each polarity, where there are two */
                if (shown && t->gold.polarity > 0) continue;
                print_example(out, t);
                shown++;
            }
        }
    Dice r = dice_make(2, "examples", 0, 0);
    do task_make(&r, t);
    while (strcmp(t->gold.family, "list") != 0 || t->gold.act != ACT_ANSWER || t->held);
    fprintf(out, "\n| demonstration | answer to: %s | gold |\n|---|---|---|\n", t->prompt.s);
    for (SynthQuality q = 0; q < QUALITY_COUNT; q++) {
        Prose answer;
        task_demonstrate(&r, t, q, &answer);
        fprintf(out, "| %s | %s | %.2f |\n", synth_quality_names[q], answer.s,
                gold_score(&t->gold, answer.s, NULL));
    }
    free(t);
}
