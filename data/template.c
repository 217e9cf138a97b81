/* template.c: chat templates.
 *
 * A conversation is cut into parts: prompt parts (all that stands before an answer, the opening of
 * the assistant's turn included) and answers. Each part is encoded on its own and the ids are
 * joined, so the boundary lies at the same place in training and in sampling, and
 *     template_conversation(m) = template_prompt(m without its last turn)
 *                              + template_completion(last)
 * Within a part, the text between two of the template's own special
 * tokens is encoded in one go: "Human: hello" becomes "Human", ":", " hello", as the pretrained
 * model knows it. Every answer ends with EOS, also within a conversation, for that is what a model
 * emits before the user goes on. */
#include "data/template.h"

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "data/template_format.h"

#include <stdlib.h>
#include <string.h>

#define IM_START "<|im_start|>"
#define IM_END   "<|im_end|>"

static const struct TemplateFormat formats[] = {
    [TEMPLATE_PLAIN] = {"plain", "", "\n", "", "", "\n", "", "", ""},
    [TEMPLATE_CHATML] = {"chatml", IM_START "system\n", IM_END "\n", "\n", IM_START "user\n",
                         IM_END "\n", IM_START "assistant\n", "", IM_END},
    [TEMPLATE_HH] = {"hh", "", "", "", "\n\nHuman: ", "", "\n\nAssistant:", " ", ""},
    [TEMPLATE_ALPACA] = {"alpaca", "", "\n\n", "\n\n", "### Instruction:\n", "\n\n",
                         "### Response:\n", "", ""},
};
enum { TEMPLATES = sizeof formats / sizeof *formats, MOST_ROLES = 64 };
_Static_assert((int)TEMPLATES == (int)TEMPLATE_ROLES, "the user's own come behind the known ones");

/* Made by template_roles; they live until the program ends. */
static struct {
    TemplateRoles words;
    struct TemplateFormat format;
} roles[MOST_ROLES];
static int nroles;

const struct TemplateFormat *template_format(Template t) {
    CHECK((int)t >= 0 && (int)t < TEMPLATES + nroles, "template %d", (int)t);
    return (int)t < TEMPLATES ? &formats[t] : &roles[(int)t - TEMPLATES].format;
}

const char *template_name(Template t) { return template_format(t)->name; }

int template_by_name(const char *name, Template *out) {
    for (int i = 0; i < TEMPLATES; i++)
        if (strcmp(formats[i].name, name) == 0) {
            *out = (Template)i;
            return 0;
        }
    return error_set(ERR_CONFIG, "no chat template \"%s\"; there are plain, chatml, hh, alpaca",
                     name);
}

/* --- the user's own templates ---------------------------------------------------------------- */

static const char *const word_names[TEMPLATE_WORDS] = {"system",   "system_end", "user",
                                                       "user_end", "assistant",  "assistant_end"};

int template_roles(const TemplateRoles *given, Template *out) {
    TemplateRoles r = *given;
    if (!*r.user && !*r.assistant)
        return error_set(ERR_CONFIG, "a template of roles needs words before the user's messages "
                                     "or the assistant's: they could not be distinguished");
    for (int i = 0; i < nroles; i++) {
        bool same = true;
        for (int w = 0; w < TEMPLATE_WORDS && same; w++)
            same = strcmp(r.word[w], roles[i].words.word[w]) == 0;
        if (!same) continue;
        *out = (Template)(TEMPLATES + i);
        return 0;
    }
    CHECK(nroles < MOST_ROLES, "more than %d templates", MOST_ROLES);
    for (int w = 0; w < TEMPLATE_WORDS; w++) r.word[w] = xstrdup(r.word[w]);
    /* White space before an answer is of one token with its first word, so it is the answer's. */
    size_t open = strlen(r.assistant);
    while (open > 0 && r.assistant[open - 1] == ' ') open--;
    roles[nroles].words = r;
    roles[nroles].format = (struct TemplateFormat){.name = "roles",
                                                   .system = r.system,
                                                   .system_end = r.system_end,
                                                   .again = "",
                                                   .user = r.user,
                                                   .user_end = r.user_end,
                                                   .open = strndup(r.assistant, open),
                                                   .answer = r.assistant + open,
                                                   .answer_end = r.assistant_end};
    *out = (Template)(TEMPLATES + nroles++);
    return 0;
}

int template_of_config(const Config *c, Template *out) {
    const TemplateRoles r = {{c->data_roles_system, c->data_roles_system_end, c->data_roles_user,
                              c->data_roles_user_end, c->data_roles_assistant,
                              c->data_roles_assistant_end}};
    *out = (Template)c->data_template;
    if (c->data_template == TEMPLATE_ROLES) {
        int rc = template_roles(&r, out);
        return rc < 0 ? config_bad(c, "data.template",
                                   "%s; set data.roles.user and "
                                   "data.roles.assistant",
                                   error_message())
                      : 0;
    }
    for (int w = 0; w < TEMPLATE_WORDS; w++)
        if (*r.word[w])
            return config_bad(c, "data.template",
                              "it is %s, which has its own words, but data.roles.%s is set; "
                              "set data.template to roles, or leave data.roles out",
                              template_name(*out), word_names[w]);
    return 0;
}

json_t *template_to_json(Template t) {
    if ((int)t < TEMPLATES) return json_string(template_name(t));
    template_format(t);
    json_t *j = json_object();
    for (int w = 0; w < TEMPLATE_WORDS; w++)
        json_object_set_new(j, word_names[w], json_string(roles[(int)t - TEMPLATES].words.word[w]));
    return j;
}

int template_from_json(const json_t *j, Template *out) {
    if (json_is_string(j)) return template_by_name(json_string_value(j), out);
    if (!json_is_object(j))
        return error_set(ERR_CONFIG, "the chat template is neither a name nor an object of roles");
    TemplateRoles r = {0};
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)j, name, v) {
        int w = 0;
        while (w < TEMPLATE_WORDS && strcmp(name, word_names[w]) != 0) w++;
        if (w == TEMPLATE_WORDS || !json_is_string(v))
            return error_set(ERR_CONFIG,
                             "the chat template has \"%s\"; expected strings: system, system_end, "
                             "user, user_end, assistant, assistant_end",
                             name);
        r.word[w] = json_string_value(v);
    }
    for (int w = 0; w < TEMPLATE_WORDS; w++)
        if (!r.word[w]) r.word[w] = "";
    return template_roles(&r, out);
}

/* --- a part in the making --------------------------------------------------------------------- */

typedef struct ChatPart {
    const Tokenizer *tk;
    IdList *out;
    Text text; /* ordinary text that is not encoded yet */
} ChatPart;

/* The user's words: never read for special tokens. */
static void part_user(ChatPart *p, const char *s) { text_bytes(&p->text, s, strlen(s)); }

static int part_flush(ChatPart *p) {
    size_t n = p->text.n;
    p->text.n = 0;
    return n > 0 ? tokenizer_encode(p->tk, p->text.s, n, false, p->out) : 0;
}

/* The longest special token that begins at s; -1: none. They are written in brackets. */
static int32_t special_at(const Tokenizer *tk, const char *s, size_t *len) {
    char token[64];
    if (*s != '<' && *s != '[') return -1;
    for (size_t n = strnlen(s, sizeof token - 1); n > 2; n--) {
        if (s[n - 1] != '>' && s[n - 1] != ']') continue;
        memcpy(token, s, n);
        token[n] = '\0';
        int32_t id = tokenizer_special(tk, token);
        if (id < 0) continue;
        *len = n;
        return id;
    }
    return -1;
}

/* The template's own words. Its markers become single ids where the tokenizer has them. */
static int part_marker(ChatPart *p, const char *s) {
    while (*s) {
        size_t len = 1;
        int32_t id = special_at(p->tk, s, &len);
        if (id >= 0) {
            TRY(part_flush(p));
            ids_push(p->out, id);
        } else {
            text_bytes(&p->text, s, len);
        }
        s += len;
    }
    return 0;
}

/* --- turns ------------------------------------------------------------------------------------ */

typedef enum Role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT } Role;

static int role_of(const char *name, Role *out) {
    static const char *const names[] = {"system", "user", "assistant"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (Role)i;
            return 0;
        }
    return error_set(ERR_DATA, "a message has the role \"%s\"; expected system, user or assistant",
                     name);
}

static int need_eos(const Tokenizer *tk, int32_t *eos) {
    *eos = tokenizer_eos(tk);
    if (*eos >= 0) return 0;
    return error_set(ERR_CONFIG, "the tokenizer has no end-of-text token, which ends every answer; "
                                 "rhetor-data tokenizer makes one that has it");
}

static int add_answer(const struct TemplateFormat *f, ChatPart *p, const char *text, bool ended) {
    int32_t eos;
    TRY(need_eos(p->tk, &eos));
    TRY(part_marker(p, f->answer));
    part_user(p, text);
    if (ended) TRY(part_marker(p, f->answer_end));
    TRY(part_flush(p));
    if (ended) ids_push(p->out, eos);
    return 0;
}

/* Appends messages 0..nmsg-1; `learn` (may be NULL) collects a byte a token. With `open` the
 * assistant's turn is opened at the end. */
static int add_turns(const struct TemplateFormat *f, ChatPart *p, const Message *m, int nmsg,
                     bool open, uint8_t **learn, int64_t *prompt) {
    int64_t marked = p->out->n; /* tokens that have their byte in *learn */
    for (int i = 0; i < nmsg; i++) {
        Role role = ROLE_USER;
        TRY(role_of(m[i].role, &role));
        if (i > 0 && role != ROLE_ASSISTANT && strcmp(m[i - 1].role, "assistant") == 0)
            TRY(part_marker(p, f->again));
        if (role != ROLE_ASSISTANT) {
            TRY(part_marker(p, role == ROLE_USER ? f->user : f->system));
            part_user(p, m[i].content);
            TRY(part_marker(p, role == ROLE_USER ? f->user_end : f->system_end));
            continue;
        }
        TRY(part_marker(p, f->open));
        TRY(part_flush(p));
        int64_t begin = p->out->n;
        TRY(add_answer(f, p, m[i].content, true));
        if (prompt) *prompt = begin;
        if (learn) {
            *learn = xrealloc(*learn, (size_t)p->out->n);
            memset(*learn + marked, 0, (size_t)(begin - marked));
            memset(*learn + begin, 1, (size_t)(p->out->n - begin));
            marked = p->out->n;
        }
    }
    if (open) TRY(part_marker(p, f->open));
    return part_flush(p);
}

int template_prompt(Template tp, const Tokenizer *tk, const Message *m, int nmsg, IdList *out) {
    if (nmsg < 1 || strcmp(m[nmsg - 1].role, "user") != 0)
        return error_set(ERR_DATA, "a prompt must end with a message of the user");
    ChatPart p = {.tk = tk, .out = out};
    int rc = add_turns(template_format(tp), &p, m, nmsg, true, NULL, NULL);
    free(p.text.s);
    return rc;
}

int template_completion(Template tp, const Tokenizer *tk, const char *text, IdList *out) {
    ChatPart p = {.tk = tk, .out = out};
    int rc = add_answer(template_format(tp), &p, text, true);
    free(p.text.s);
    return rc;
}

int template_unfinished(Template tp, const Tokenizer *tk, const char *text, IdList *out) {
    ChatPart p = {.tk = tk, .out = out};
    int rc = add_answer(template_format(tp), &p, text, false);
    free(p.text.s);
    return rc;
}

int template_conversation(Template tp, const Tokenizer *tk, const Message *m, int nmsg, IdList *out,
                          uint8_t **learn, int64_t *prompt) {
    if (nmsg < 2 || strcmp(m[nmsg - 1].role, "assistant") != 0)
        return error_set(ERR_DATA, "a conversation must end with an answer of the assistant to a "
                                   "message before it");
    CHECK(out->n == 0, "the list holds %lld ids already", (long long)out->n);
    *learn = NULL;
    ChatPart p = {.tk = tk, .out = out};
    int rc = add_turns(template_format(tp), &p, m, nmsg, false, learn, prompt);
    free(p.text.s);
    if (rc < 0) {
        free(*learn);
        *learn = NULL;
    }
    return rc;
}

int template_text(const Tokenizer *tk, const int32_t *ids, int64_t n, char **text) {
    int32_t *known = xmalloc((size_t)(n + 1) * sizeof *known);
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < tokenizer_vocab(tk)) known[k++] = ids[i];
    int rc = tokenizer_decode(tk, known, k, true, text, NULL);
    free(known);
    return rc;
}

int template_decode(Template tp, const Tokenizer *tk, const int32_t *ids, int64_t n, char **text) {
    const struct TemplateFormat *f = template_format(tp);
    int32_t eos = tokenizer_eos(tk), end = tokenizer_special(tk, f->answer_end);
    int64_t stop = 0;
    while (stop < n && (eos < 0 || ids[stop] != eos) && (end < 0 || ids[stop] != end)) stop++;
    TRY(template_text(tk, ids, stop, text));
    char *cut = *f->answer_end ? strstr(*text, f->answer_end) : NULL;
    if (cut) *cut = '\0';
    size_t skip = strlen(f->answer);
    if (skip > 0 && strncmp(*text, f->answer, skip) == 0)
        memmove(*text, *text + skip, strlen(*text) - skip + 1);
    return 0;
}
