/* record.c: the shapes that records have in the wild -> prompt and answers.
 *
 * A record is read in two steps: where is the prompt (messages, a string, Alpaca's instruction, or
 * nowhere: then it is what the answers have in common), and where are the answers. A string prompt
 * in hh-rlhf's notation ("\n\nHuman: ...\n\nAssistant: ...") is split into its messages, so
 * that the same conversation gives the same tokens however it was written down. */
#include "data/record.h"

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HUMAN     "\n\nHuman:"
#define ASSISTANT "\n\nAssistant:"

static const char *keep(Record *r, char *s) {
    r->owned = xrealloc(r->owned, (size_t)(r->nowned + 1) * sizeof *r->owned);
    return r->owned[r->nowned++] = s;
}

static void add_message(Record *r, const char *role, const char *content) {
    r->prompt = xrealloc(r->prompt, (size_t)(r->nprompt + 1) * sizeof *r->prompt);
    r->prompt[r->nprompt++] = (Message){role, content};
}

static void add_answer(Record *r, const char *text) {
    r->answer = xrealloc(r->answer, (size_t)(r->nanswer + 1) * sizeof *r->answer);
    r->answer[r->nanswer++] = text;
}

/* A member that is there and not null. */
static json_t *get(const json_t *object, const char *name) {
    json_t *v = json_object_get(object, name);
    return json_is_null(v) ? NULL : v;
}

/* --- messages --------------------------------------------------------------------------------- */

/* Text of a message: a string, or parts {"type":"text","text" or "value": ...}. */
static int message_text(Record *r, const json_t *v, const char **out) {
    if (json_is_string(v)) {
        *out = json_string_value(v);
        return 0;
    }
    if (!json_is_array(v))
        return error_set(ERR_DATA, "a message without text: expected \"content\" (or \"value\") "
                                   "with a string");
    Text all = {0};
    size_t i;
    json_t *part;
    json_array_foreach(v, i, part) {
        const char *text = json_string_value(get(part, "text"));
        if (!text) text = json_string_value(get(part, "value"));
        if (!text) {
            free(all.s);
            return error_set(ERR_DATA, "part %zu of a message is not text", i + 1);
        }
        text_put(&all, "%s", text);
    }
    *out = keep(r, text_take(&all));
    return 0;
}

/* {"role","content"} or ShareGPT's {"from","value"}. */
static int one_message(Record *r, const json_t *v, Message *out) {
    static const char *const roles[][2] = {{"user", "user"},
                                           {"human", "user"},
                                           {"assistant", "assistant"},
                                           {"gpt", "assistant"},
                                           {"system", "system"}};
    const json_t *role = get(v, "role") ? get(v, "role") : get(v, "from");
    if (!json_is_string(role))
        return error_set(ERR_DATA, "a message without \"role\" (or \"from\")");
    *out = (Message){0};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(json_string_value(role), roles[i][0]) == 0) out->role = roles[i][1];
    if (!out->role)
        return error_set(ERR_DATA,
                         "a message has the role \"%s\"; expected user, assistant or system (or "
                         "human, gpt)",
                         json_string_value(role));
    return message_text(r, get(v, "content") ? get(v, "content") : get(v, "value"), &out->content);
}

static int add_messages(Record *r, const json_t *list, const char *name) {
    size_t i;
    json_t *v;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return error_set(ERR_DATA, "\"%s\" is not a list of messages", name);
    json_array_foreach(list, i, v) {
        Message m;
        int rc = one_message(r, v, &m);
        if (rc < 0) return error_wrap(rc, "\"%s\", message %zu", name, i + 1);
        add_message(r, m.role, m.content);
    }
    return 0;
}

/* Takes the last message away if it is the assistant's: an answer, or hh's opened empty turn. */
static const char *pop_answer(Record *r) {
    if (r->nprompt == 0 || strcmp(r->prompt[r->nprompt - 1].role, "assistant") != 0) return NULL;
    return r->prompt[--r->nprompt].content;
}

/* --- hh-rlhf's notation ----------------------------------------------------------------------- */

static bool is_dialogue(const char *s) { return strncmp(s, HUMAN, strlen(HUMAN)) == 0; }

static char *trimmed(const char *s, size_t n) {
    while (n > 0 && isspace((unsigned char)*s)) s++, n--;
    while (n > 0 && isspace((unsigned char)s[n - 1])) n--;
    return strndup(s, n);
}

static void add_dialogue(Record *r, const char *s) {
    while (*s) {
        bool user = is_dialogue(s);
        s += strlen(user ? HUMAN : ASSISTANT);
        const char *h = strstr(s, HUMAN), *a = strstr(s, ASSISTANT);
        const char *end = h && (!a || h < a) ? h : a;
        size_t n = end ? (size_t)(end - s) : strlen(s);
        add_message(r, user ? "user" : "assistant", keep(r, trimmed(s, n)));
        s += n;
    }
}

/* --- the prompt ------------------------------------------------------------------------------- */

static int add_string_prompt(Record *r, const char *s) {
    if (!is_dialogue(s)) {
        add_message(r, "user", s);
        return 0;
    }
    add_dialogue(r, s);
    const char *opened = pop_answer(r);
    if (opened && *opened)
        return error_set(ERR_DATA, "the prompt ends with words of the assistant: \"%.40s\"",
                         opened);
    return 0;
}

/* {"instruction","input"}, with "history" [[question, answer], ...] before it. */
static int add_instruction(Record *r, const json_t *j, Template tmpl) {
    const char *instruction, *input = "";
    TRY(json_get_str(j, "instruction", &instruction));
    if (get(j, "input")) TRY(json_get_str(j, "input", &input));
    const json_t *history = get(j, "history");
    size_t i;
    json_t *turn;
    json_array_foreach(history, i, turn) {
        const char *question = json_string_value(json_array_get(turn, 0));
        const char *answer = json_string_value(json_array_get(turn, 1));
        if (!question || !answer)
            return error_set(ERR_DATA, "\"history\", item %zu is not [question, answer]", i + 1);
        add_message(r, "user", question);
        add_message(r, "assistant", answer);
    }
    if (*input) {
        const char *between = tmpl == TEMPLATE_ALPACA ? "\n\n### Input:\n" : "\n\n";
        instruction = keep(r, xasprintf("%s%s%s", instruction, between, input));
    }
    add_message(r, "user", instruction);
    return 0;
}

/* The prompt where the record has one of its own. Returns 1 if so, 0 if it has none. */
static int explicit_prompt(Record *r, const DatasetOptions *o) {
    const json_t *j = r->json;
    const char *messages = dataset_field(o, FIELD_MESSAGES);
    const char *prompt = dataset_field(o, FIELD_PROMPT);
    const json_t *system = get(j, "system");
    if (json_is_string(system) && *json_string_value(system))
        add_message(r, "system", json_string_value(system));
    if (!get(j, messages)) messages = "conversations";
    if (get(j, messages)) {
        TRY(add_messages(r, get(j, messages), messages));
    } else if (json_is_array(get(j, prompt))) {
        TRY(add_messages(r, get(j, prompt), prompt));
    } else if (get(j, prompt)) {
        const char *s;
        TRY(json_get_str(j, prompt, &s));
        TRY(add_string_prompt(r, s));
    } else if (get(j, "instruction")) {
        TRY(add_instruction(r, j, o->tmpl));
    } else if (json_is_string(get(j, "question"))) {
        add_message(r, "user", json_string_value(get(j, "question")));
    } else {
        return 0;
    }
    return 1;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* One answer: a string, a message of the assistant, or a list that ends with one. */
static int answer_text(Record *r, const json_t *v, const char *name, const char **out) {
    if (json_is_string(v)) {
        *out = json_string_value(v);
        return 0;
    }
    if (json_is_array(v) && json_array_size(v) > 0) v = json_array_get(v, json_array_size(v) - 1);
    Message m;
    if (!json_is_object(v))
        return error_set(ERR_DATA, "\"%s\" is neither a string nor a message", name);
    int rc = one_message(r, v, &m);
    if (rc < 0) return error_wrap(rc, "\"%s\"", name);
    if (strcmp(m.role, "assistant") != 0)
        return error_set(ERR_DATA, "\"%s\" does not end with a message of the assistant", name);
    *out = m.content;
    return 0;
}

static bool same_message(const Message *a, const Message *b) {
    return strcmp(a->role, b->role) == 0 && strcmp(a->content, b->content) == 0;
}

/* Two conversations that share all but the last answer: their common part becomes the prompt. */
static int split_conversations(Record *r, Record *other) {
    add_answer(r, pop_answer(r));
    add_answer(r, pop_answer(other));
    if (!r->answer[0] || !r->answer[1])
        return error_set(ERR_DATA, "\"chosen\" and \"rejected\" must end with an answer");
    bool same = r->nprompt == other->nprompt;
    for (int i = 0; same && i < r->nprompt; i++)
        same = same_message(&r->prompt[i], &other->prompt[i]);
    if (!same)
        return error_set(ERR_DATA,
                         "\"chosen\" and \"rejected\" differ before their last answer, so "
                         "they do not answer the same prompt");
    return 0;
}

/* Plain strings: the prompt is what they have in common, up to a white space. */
static int split_strings(Record *r, const char *a, const char *b) {
    size_t n = 0;
    while (a[n] && a[n] == b[n]) n++;
    while (n > 0 && !isspace((unsigned char)a[n - 1])) n--;
    char *prompt = trimmed(a, n);
    add_message(r, "user", keep(r, prompt));
    if (!*prompt)
        return error_set(ERR_DATA,
                         "no \"prompt\", and \"chosen\" and \"rejected\" have no beginning "
                         "in common");
    add_answer(r, a + n);
    add_answer(r, b + n);
    return 0;
}

/* chosen, rejected. Where they are whole conversations, the prompt in them counts. */
static int chosen_rejected(Record *r, const DatasetOptions *o, bool has_prompt) {
    const char *name[2] = {dataset_field(o, FIELD_CHOSEN), dataset_field(o, FIELD_REJECTED)};
    const json_t *v[2] = {get(r->json, name[0]), get(r->json, name[1])};
    const char *s[2] = {json_string_value(v[0]), json_string_value(v[1])};
    for (int i = 0; i < 2; i++)
        if (!v[i]) return error_set(ERR_DATA, "missing \"%s\"", name[i]);
    bool lists = json_array_size(v[0]) > 1 && json_array_size(v[1]) > 1;
    bool dialogues = s[0] && s[1] && is_dialogue(s[0]) && is_dialogue(s[1]);
    r->rank = xmalloc(2 * sizeof *r->rank);
    r->rank[0] = 1;
    r->rank[1] = 2;
    if (lists || dialogues) {
        Record other = {0};
        int rc = 0;
        r->nprompt = 0;
        if (lists) {
            TRY_GOTO(done, add_messages(r, v[0], name[0]));
            TRY_GOTO(done, add_messages(&other, v[1], name[1]));
        } else {
            add_dialogue(r, s[0]);
            add_dialogue(&other, s[1]);
        }
        rc = split_conversations(r, &other);
    done:
        for (int i = 0; i < other.nowned; i++) keep(r, other.owned[i]); /* the answer is there */
        free(other.owned);
        free(other.prompt);
        return rc;
    }
    if (!has_prompt) {
        if (s[0] && s[1]) return split_strings(r, s[0], s[1]);
        return error_set(ERR_DATA,
                         "no prompt: expected \"%s\", or whole conversations in \"%s\" "
                         "and \"%s\"",
                         dataset_field(o, FIELD_PROMPT), name[0], name[1]);
    }
    for (int i = 0; i < 2; i++) {
        const char *text;
        TRY(answer_text(r, v[i], name[i], &text));
        add_answer(r, text);
    }
    return 0;
}

void record_ranks(const double *score, int k, int32_t *rank) {
    for (int i = 0; i < k; i++) { /* one more than there are different better scores */
        rank[i] = 1;
        for (int j = 0; j < k; j++) {
            bool counted = score[j] <= score[i];
            for (int l = 0; l < j && !counted; l++) counted = score[l] == score[j];
            if (!counted) rank[i]++;
        }
    }
}

/* A rank or score: a number, or one written as a string. */
static bool number_of(const json_t *v, double *out) {
    const char *s = json_string_value(v);
    char *end;
    *out = s ? strtod(s, &end) : json_number_value(v);
    return isfinite(*out) && (s ? *s && !*end : json_is_number(v));
}

/* K answers with "ranks" or "scores" beside them, or a "rank" or "score" in each. */
static int k_way(Record *r, const json_t *list, const char *name) {
    size_t k = json_array_size(list), i;
    if (!json_is_array(list) || k < 2)
        return error_set(ERR_DATA, "\"%s\" is not a list of at least two answers", name);
    const json_t *ranks = get(r->json, "ranks"), *scores = get(r->json, "scores");
    const json_t *beside = ranks ? ranks : scores;
    if (beside && json_array_size(beside) != k)
        return error_set(ERR_DATA, "\"%s\" has %zu values for %zu answers",
                         ranks ? "ranks" : "scores", json_array_size(beside), k);
    double *score = xmalloc(k * sizeof *score);
    int rc = 0;
    json_t *v;
    json_array_foreach(list, i, v) {
        static const char *const names[] = {"text", "output", "completion", "response", "content"};
        const json_t *text = v, *value = json_array_get(beside, i);
        bool lower_is_better = ranks != NULL;
        if (json_is_object(v)) {
            text = NULL;
            for (size_t n = 0; n < sizeof names / sizeof *names && !text; n++)
                text = get(v, names[n]);
            if (!beside) {
                lower_is_better = get(v, "rank") != NULL;
                value = lower_is_better ? get(v, "rank") : get(v, "score");
            }
        }
        if (!json_is_string(text))
            rc = error_set(ERR_DATA, "\"%s\", answer %zu has no text", name, i + 1);
        else if (!value || json_is_null(value))
            rc = error_set(ERR_DATA,
                           "\"%s\", answer %zu has no rank or score: expected \"ranks\" or "
                           "\"scores\" with a number each",
                           name, i + 1);
        else if (!number_of(value, &score[i]))
            rc = error_set(ERR_DATA,
                           "the %s of answer %zu in \"%s\" is %s%.40s%s, expected a number",
                           lower_is_better ? "rank" : "score", i + 1, name,
                           json_is_string(value) ? "\"" : "no number",
                           json_is_string(value) ? json_string_value(value) : "",
                           json_is_string(value) ? "\"" : "");
        if (rc < 0) break;
        if (lower_is_better) score[i] = -score[i];
        add_answer(r, json_string_value(text));
    }
    if (rc == 0) {
        r->rank = xmalloc(k * sizeof *r->rank);
        record_ranks(score, (int)k, r->rank);
    }
    free(score);
    return rc;
}

/* LLaMA-Factory's rankings: "output" is a list, the best first. */
static int best_first(Record *r, const json_t *list) {
    size_t k = json_array_size(list), i;
    json_t *v;
    if (k < 2) return error_set(ERR_DATA, "\"output\" is not a list of at least two answers");
    r->rank = xmalloc(k * sizeof *r->rank);
    json_array_foreach(list, i, v) {
        if (!json_is_string(v))
            return error_set(ERR_DATA, "\"output\", answer %zu is not a string", i + 1);
        r->rank[i] = (int32_t)i + 1;
        add_answer(r, json_string_value(v));
    }
    return 0;
}

static int ranked(Record *r, const DatasetOptions *o, bool has_prompt) {
    const char *lists[] = {"completions", "responses"};
    const char *chosen = dataset_field(o, FIELD_CHOSEN);
    if (!get(r->json, chosen) && !get(r->json, dataset_field(o, FIELD_REJECTED))) {
        if (!has_prompt)
            return error_set(ERR_DATA, "no prompt: expected \"%s\", or \"%s\" and \"rejected\"",
                             dataset_field(o, FIELD_PROMPT), chosen);
        for (int i = 0; i < 2; i++)
            if (get(r->json, lists[i])) return k_way(r, get(r->json, lists[i]), lists[i]);
        if (json_is_array(get(r->json, "output"))) return best_first(r, get(r->json, "output"));
        return error_set(ERR_DATA,
                         "no ranked answers: expected \"%s\" and \"rejected\", or "
                         "\"completions\" with \"ranks\" or \"scores\"",
                         chosen);
    }
    return chosen_rejected(r, o, has_prompt);
}

static int demonstration(Record *r, const DatasetOptions *o, bool has_prompt) {
    const char *completion = dataset_field(o, FIELD_COMPLETION), *text;
    if (!has_prompt)
        return error_set(ERR_DATA,
                         "no prompt: expected \"%s\" and \"%s\", \"instruction\" and "
                         "\"output\", or \"%s\" (see data.fields)",
                         dataset_field(o, FIELD_PROMPT), completion,
                         dataset_field(o, FIELD_MESSAGES));
    if (!get(r->json, completion)) completion = get(r->json, "output") ? "output" : "answer";
    if (get(r->json, completion))
        TRY(answer_text(r, get(r->json, completion), completion, &text));
    else
        text = pop_answer(r);
    if (!text)
        return error_set(ERR_DATA,
                         "no answer: expected \"%s\", or messages that end with one of the "
                         "assistant (see data.fields)",
                         dataset_field(o, FIELD_COMPLETION));
    add_answer(r, text);
    return 0;
}

/* A demonstration with "label": is it a good one? Of ranked answers the best are. */
static int labelled(Record *r, const DatasetOptions *o, bool has_prompt) {
    const json_t *label = get(r->json, "label");
    if (label && !json_is_boolean(label))
        return error_set(ERR_DATA, "\"label\" is neither true nor false");
    TRY(label ? demonstration(r, o, has_prompt) : ranked(r, o, has_prompt));
    if (label) r->rank = xcalloc(1, sizeof *r->rank);
    if (label) r->rank[0] = json_is_true(label) ? 1 : 2;
    for (int i = 0; i < r->nanswer; i++) r->rank[i] = r->rank[i] == 1 ? 1 : 2;
    return 0;
}

/* "stopped": true or false for each answer, as rhetor-generate writes it. */
static int read_stopped(Record *r) {
    const json_t *v = get(r->json, "stopped");
    if (!v) return 0;
    bool ok = !json_is_array(v) || json_array_size(v) == (size_t)r->nanswer;
    r->unfinished = xcalloc((size_t)r->nanswer, sizeof *r->unfinished);
    for (int i = 0; i < r->nanswer; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, (size_t)i) : v;
        ok = ok && json_is_boolean(one);
        r->unfinished[i] = json_is_false(one);
    }
    return ok ? 0
              : error_set(ERR_DATA,
                          "\"stopped\": expected true or false for each of the answers (%d)",
                          r->nanswer);
}

int record_parse(Record *r, DatasetKind kind, json_t *json, const DatasetOptions *o) {
    *r = (Record){.json = json};
    if (!json_is_object(json)) return error_set(ERR_DATA, "not a JSON object");
    int has_prompt = explicit_prompt(r, o);
    TRY(has_prompt);
    switch (kind) {
    case DATASET_DEMOS: TRY(demonstration(r, o, has_prompt)); break;
    case DATASET_RANKED: TRY(ranked(r, o, has_prompt)); break;
    case DATASET_LABELLED: TRY(labelled(r, o, has_prompt)); break;
    case DATASET_PROMPTS:
        if (!has_prompt) {
            if (!get(json, dataset_field(o, FIELD_CHOSEN)))
                return error_set(ERR_DATA,
                                 "no prompt: expected \"%s\", \"instruction\" or \"%s\" "
                                 "(see data.fields)",
                                 dataset_field(o, FIELD_PROMPT), dataset_field(o, FIELD_MESSAGES));
            TRY(chosen_rejected(r, o, false));
            r->nanswer = 0;
        }
        pop_answer(r);
        break;
    }
    if (kind != DATASET_PROMPTS) TRY(read_stopped(r));
    if (r->nprompt == 0 || strcmp(r->prompt[r->nprompt - 1].role, "user") != 0)
        return error_set(ERR_DATA, "the prompt does not end with a message of the user");
    return 0;
}

int record_wrap(int code, const char *path, bool array, int64_t line) {
    return error_wrap(code, array ? "%s, item %lld" : "%s:%lld", path, (long long)line);
}

int record_skip(const char *message, int64_t *bad, int64_t max, const char *what,
                const char *setting) {
    enum { SHOWN = 5 };
    const int64_t before = (*bad)++;
    if (before >= max)
        return error_set(ERR_DATA, "%s (and %lld bad %s%s before it: more than %s)", message,
                         (long long)before, what, TEXT_S(before), setting);
    if (*bad <= SHOWN)
        log_warn("skipped: %s%s", message, *bad == SHOWN ? " (further ones not shown)" : "");
    return 0;
}

void record_warn(const char *names, int64_t n, int64_t all, const char *what, const char *have) {
    if (n == 0 || log_my_rank() != 0) return;
    log_warn("%s: %lld of %lld %s%s %s %s", names, (long long)n, (long long)all, what, TEXT_S(all),
             n == 1 ? "has" : "have", have);
}

void record_free(Record *r) {
    for (int i = 0; i < r->nowned; i++) free(r->owned[i]);
    free(r->owned);
    free(r->prompt);
    free(r->answer);
    free(r->rank);
    free(r->unfinished);
    json_decref(r->json);
    *r = (Record){0};
}
