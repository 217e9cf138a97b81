/* rewards.c: gold, program, rules. See rewards.h. */
#include "rlhf/rewards.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <oniguruma.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/world/gold.h"
#include "dist/watchdog.h"

/* --- rules ------------------------------------------------------------------------------------ */

/* The last number of the text, its commas between digits left out: false if there is none. */
static bool last_number(const char *s, double *out) {
    bool found = false;
    while (*s) {
        char digits[64];
        size_t n = 0;
        const bool negative = *s == '-' && isdigit((unsigned char)s[1]);
        if (!negative && !isdigit((unsigned char)*s)) {
            s++;
            continue;
        }
        if (negative) digits[n++] = *s++;
        for (; isdigit((unsigned char)*s) ||
               ((*s == ',' || *s == '.') && isdigit((unsigned char)s[1]));
             s++)
            if (*s != ',' && n + 1 < sizeof digits) digits[n++] = *s;
        digits[n] = '\0';
        *out = strtod(digits, NULL);
        found = true;
    }
    return found;
}

bool rewards_same_number(const char *text, const char *want) {
    double a, b;
    return last_number(text, &a) && last_number(want, &b) && fabs(a - b) <= 1e-9 * fabs(b);
}

static const char *trim(const char *s, size_t *n) {
    while (isspace((unsigned char)*s)) s++;
    *n = strlen(s);
    while (*n > 0 && isspace((unsigned char)s[*n - 1])) --*n;
    return s;
}

static bool same_text(const char *a, const char *b) {
    size_t n, m;
    a = trim(a, &n);
    b = trim(b, &m);
    return n == m && memcmp(a, b, n) == 0;
}

/* The record's right answer. */
static const char *answer_of(const Config *c, const json_t *record) {
    return json_string_value(json_object_get(record, c->reward_answer));
}

/* --- records ---------------------------------------------------------------------------------- */

/* Those that the set's items came from, in their order. */
static int read_records(RewardRecords *r, const StrList *files, const Dataset *d) {
    *r = (RewardRecords){.n = d->n, .record = xcalloc((size_t)d->n + 1, sizeof *r->record)};
    int64_t i = 0;
    for (int f = 0; f < files->n; f++) {
        JsonRecords *records;
        TRY(json_records_open(&records, files->v[f]));
        while (i < d->n && d->file[i] == f) {
            json_t *json = NULL;
            const int rc = json_records_next(records, &json);
            if (rc == 0 || (rc < 0 && rc != ERR_DATA)) break;
            if (rc > 0 && json_records_line(records) == d->line[i])
                r->record[i++] = json;
            else
                json_decref(json);
        }
        json_records_close(&records);
    }
    return i == d->n ? 0 : error_set(ERR_IO, "%s has changed while it was read", files->v[0]);
}

/* What the rewards need must be there, before anything is computed. */
static int check_records(const Config *c, const RewardRecords *r, const Dataset *d,
                         const StrList *files) {
    for (int64_t i = 0; i < r->n; i++) {
        AUTOFREE char *where = xasprintf("%s:%lld", files->v[d->file[i]], (long long)d->line[i]);
        Gold gold;
        if (c->reward_gold != 0)
            TRY(gold_read(&gold, json_object_get(r->record[i], "gold"), where));
        if (c->reward_number == 0 && c->reward_text == 0) continue;
        const char *answer = answer_of(c, r->record[i]);
        double number;
        if (!answer)
            return error_set(
                ERR_DATA, "%s: no string \"%s\", with which answers are compared (reward.answer)",
                where, c->reward_answer);
        if (c->reward_number != 0 && !last_number(answer, &number))
            return error_set(ERR_DATA, "%s: no number in \"%s\" (reward.number)", where,
                             c->reward_answer);
    }
    return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

bool rewards_wanted(const Config *c) {
    return c->reward_gold != 0 || c->reward_program != 0 || c->reward_number != 0 ||
           c->reward_text != 0 || c->reward_match != 0 || c->reward_length != 0;
}

/* The command and what lies in the files that it names: its version. */
static uint64_t version_of(const char *command) {
    uint64_t hash = hash_bytes(command, strlen(command));
    AUTOFREE char *words = xstrdup(command);
    char *rest = words, *word;
    while ((word = strsep(&rest, " \t\n;|&"))) {
        AUTOFREE char *text = NULL;
        size_t len;
        if (*word && file_exists(word) && !file_is_dir(word) && file_read(word, &text, &len) >= 0)
            hash = hash_combine(hash, hash_bytes(text, len));
    }
    return hash;
}

static const OnigUChar *bytes(const char *s) { return (const OnigUChar *)s; }

static int open_pattern(Rewards *r) {
    const Config *c = r->cfg;
    const char *p = c->reward_pattern;
    OnigEncoding utf8 = ONIG_ENCODING_UTF8;
    OnigErrorInfo info;
    OnigUChar why[ONIG_MAX_ERROR_MESSAGE_LEN];
    OnigRegex code;
    if (c->reward_match == 0) return 0;
    if (!*p) return config_bad(c, "reward.pattern", "reward.match needs one");
    onig_initialize(&utf8, 1);
    const int rc = onig_new(&code, bytes(p), bytes(p + strlen(p)), ONIG_OPTION_NONE, utf8,
                            ONIG_SYNTAX_DEFAULT, &info);
    if (rc == ONIG_NORMAL) {
        r->pattern = code;
        return 0;
    }
    onig_error_code_to_str(why, rc, &info);
    return config_bad(c, "reward.pattern", "is no regular expression: %s", (char *)why);
}

static bool matches(const Rewards *r, const char *text) {
    size_t len;
    AUTOFREE char *valid = utf8_repair(text, strlen(text), &len);
    const OnigUChar *begin = bytes(valid), *end = begin + len;
    return onig_search(r->pattern, begin, end, begin, end, NULL, ONIG_OPTION_NONE) >= 0;
}

int rewards_open(Rewards *r, Run *run, const Loaded *policy, const Dataset *prompts,
                 const Dataset *heldout) {
    const Config *c = &run->cfg;
    *r = (Rewards){.cfg = c, .policy = policy};
    if (!rewards_wanted(c)) return 0;
    if (prompts->n == 0)
        return config_bad(c, "ppo.replay", "a replay has no records to compute rewards from");
    TRY(open_pattern(r));
    TRY(read_records(&r->prompts, &c->data_train, prompts));
    TRY(check_records(c, &r->prompts, prompts, &c->data_train));
    if (heldout->n > 0) {
        TRY(read_records(&r->heldout, &c->data_heldout, heldout));
        TRY(check_records(c, &r->heldout, heldout, &c->data_heldout));
    }
    if (c->reward_program == 0) return 0;
    if (!*c->reward_command)
        return config_bad(c, "reward.command", "reward.program needs a command that answers");
    run_data(run, "reward_program", version_of(c->reward_command));
    run_keep_i64(run, "reward_restarts", &r->restarts);
    if (run->main_rank) r->program = coprocess_new(c->reward_command, c->reward_seconds);
    return 0;
}

static void free_records(RewardRecords *r) {
    for (int64_t i = 0; i < r->n; i++) json_decref(r->record[i]);
    free(r->record);
}

void rewards_close(Rewards *r) {
    free_records(&r->prompts);
    free_records(&r->heldout);
    coprocess_close(&r->program);
    if (r->pattern) onig_free(r->pattern);
}

void rewards_weigh(const Rewards *r, Episodes *e) {
    const double w = r->cfg->reward_model;
    for (int64_t i = 0; i < e->n && w != 1; i++)
        if (e->stopped[i]) e->score[i] = (float)(w * (double)e->score[i]);
}

/* --- scores ----------------------------------------------------------------------------------- */

/* What this process computes itself. */
static int score_one(const Rewards *r, const json_t *record, const Episodes *e, int64_t i,
                     const char *text, double *score) {
    const Config *c = r->cfg;
    const char *answer = answer_of(c, record);
    Gold gold;
    if (c->reward_gold != 0) {
        TRY(gold_read(&gold, json_object_get(record, "gold"), "reward.gold"));
        *score += c->reward_gold * gold_score(&gold, text, NULL);
    }
    if (c->reward_number != 0 && rewards_same_number(text, answer)) *score += c->reward_number;
    if (c->reward_text != 0 && same_text(text, answer)) *score += c->reward_text;
    if (r->pattern && matches(r, text)) *score += c->reward_match;
    *score += c->reward_length * (double)rollout_length(e, i) / (double)c->ppo_max_response;
    return 0;
}

static json_t *text_json(const char *text) {
    size_t len;
    AUTOFREE char *valid = utf8_repair(text, strlen(text), &len);
    return json_stringn(valid, len);
}

static void put_question(Text *t, const char *prompt, const char *completion, json_t *record) {
    json_t *line = json_pack("{s:o, s:o, s:O}", "prompt", text_json(prompt), "completion",
                             text_json(completion), "record", record);
    AUTOFREE char *text = json_dumps(line, JSON_COMPACT);
    text_put(t, "%s\n", text);
    json_decref(line);
}

/* Responses as texts, and what each is worth by itself. pick: the finished ones; *m: how many. */
static int score_all(Rewards *r, const RewardRecords *of, const Episodes *e, int64_t *pick,
                     int64_t *m, double *score, Text *questions) {
    const Tokenizer *tk = r->policy->tokenizer;
    *m = 0;
    for (int64_t i = 0; i < e->n; i++) {
        const int32_t *t = e->tokens + e->start[i];
        json_t *record = of->record[e->item[i]];
        AUTOFREE char *prompt = NULL, *text = NULL;
        if (!e->stopped[i]) continue;
        TRY(tokenizer_decode(tk, t, e->prompt[i], true, &prompt, NULL));
        TRY(tokenizer_decode(tk, t + e->prompt[i], rollout_length(e, i) - 1, true, &text, NULL));
        TRY(score_one(r, record, e, i, text, &score[*m]));
        if (r->program) put_question(questions, prompt, text, record);
        pick[(*m)++] = i;
        watchdog_beat();
    }
    return 0;
}

int rewards_add(Rewards *r, const RewardRecords *of, Episodes *e, Comm *comm) {
    if (!rewards_wanted(r->cfg)) return 0;
    AUTOFREE int64_t *pick = xmalloc((size_t)(e->n + 1) * sizeof *pick);
    AUTOFREE double *score = xcalloc((size_t)e->n + 1, sizeof *score);
    AUTOFREE double *number = xcalloc((size_t)e->n + 1, sizeof *number);
    Text questions = {0};
    int64_t m = 0;
    watchdog_enter(PHASE_SCORE);
    int rc = score_all(r, of, e, pick, &m, score, &questions);
    if (rc >= 0 && r->program && m > 0) { /* rank 0 asks for all */
        const int64_t before = coprocess_restarts(r->program);
        rc = coprocess_ask(r->program, questions.s, questions.n, m, number);
        r->restarts += coprocess_restarts(r->program) - before;
    }
    free(questions.s);
    TRY(comm_agree(comm, rc));
    if (r->cfg->reward_program != 0) {
        comm_bcast(comm, number, (size_t)m * sizeof *number, 0);
        comm_bcast(comm, &r->restarts, sizeof r->restarts, 0);
    }
    for (int64_t k = 0; k < m; k++)
        e->score[pick[k]] += (float)(score[k] + r->cfg->reward_program * number[k]);
    return 0;
}
