/* template.c: chat templates.
 *
 * A conversation is cut into parts: prompt parts (all that stands before an answer, the opening of
 * the assistant's turn included) and answers. Each part is encoded on its own and the ids are
 * joined, so the boundary lies at the same place in training and in sampling, and
 *     template_conversation(m) = template_prompt(m without its last turn)
 *                              + template_completion(last)
 * Within a part, the text between two of the template's own special
 * tokens is encoded in one go: "Human: hello" becomes "Human", ":", " hello", as the pretrained
 * model knows it. Every answer ends with EOS or the template's own end, also within a conversation,
 * for that is what a model emits before the user goes on.
 *
 * The templates of published models were read off their own (Hugging Face's tokenizer_config.json);
 * tests/data/test_template.c compares with transformers. Left out is what they have for tools. */
#include "data/template.h"

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "data/template_format.h"

#include <stdlib.h>
#include <string.h>

#define IM_START "<|im_start|>"
#define IM_END   "<|im_end|>"

#define SYSTEM    IM_START "system\n"
#define HEADER(r) "<|start_header_id|>" r "<|end_header_id|>\n\n"
#define EOT       "<|eot_id|>"
#define TODAY     "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
#define THINK     "<think>\n\n</think>\n\n"

#define CHATML                                                                             \
    .system = SYSTEM, .system_end = IM_END "\n", .again = "\n", .user = IM_START "user\n", \
    .user_end = IM_END "\n", .open = IM_START "assistant\n", .answer_end = IM_END
#define LLAMA3                                                                                \
    .begin = "<|begin_of_text|>", .system_end = EOT, .user = HEADER("user"), .user_end = EOT, \
    .open = HEADER("assistant"), .answer_end = EOT, .trim = true, .own_end = true

static const struct TemplateFormat formats[] = {
    [TEMPLATE_PLAIN] = {"plain", .system_end = "\n", .user_end = "\n"},
    [TEMPLATE_CHATML] = {"chatml", CHATML},
    [TEMPLATE_HH] = {"hh", .user = "\n\nHuman: ", .open = "\n\nAssistant:", .answer = " "},
    [TEMPLATE_ALPACA] = {"alpaca", .system_end = "\n\n", .again = "\n\n",
                         .user = "### Instruction:\n", .user_end = "\n\n",
                         .open = "### Response:\n"},
    [TEMPLATE_SMOLLM2] = {"smollm2", CHATML, .own_end = true,
                          .no_system =
                              SYSTEM "You are a helpful AI assistant named SmolLM, trained "
                                     "by Hugging Face" IM_END "\n"},
    [TEMPLATE_QWEN2] = {"qwen2", CHATML, .own_end = true,
                        .no_system = SYSTEM "You are a helpful assistant." IM_END "\n"},
    [TEMPLATE_QWEN25] = {"qwen2.5", CHATML, .own_end = true,
                         .no_system = SYSTEM "You are Qwen, created by Alibaba Cloud. You are a "
                                             "helpful assistant." IM_END "\n"},
    [TEMPLATE_QWEN3] = {"qwen3", CHATML, .own_end = true, .think = THINK},
    [TEMPLATE_QWEN3_DIRECT] = {"qwen3-direct", CHATML, .own_end = true, .think = THINK,
                               .think_in_prompt = true},
    [TEMPLATE_LLAMA3] = {"llama3", LLAMA3, .system = HEADER("system")},
    [TEMPLATE_LLAMA31] = {"llama3.1", LLAMA3, .system = HEADER("system") TODAY,
                          .no_system = HEADER("system") TODAY EOT},
    [TEMPLATE_ZEPHYR] = {"zephyr", .system = "<|system|>\n", .system_end = TEMPLATE_EOS "\n",
                         .again = "\n", .user = "<|user|>\n", .user_end = TEMPLATE_EOS "\n",
                         .open = "<|assistant|>\n"},
    [TEMPLATE_GEMMA] = {"gemma", .begin = "<bos>", .folded = true, .system_end = "\n\n",
                        .again = "\n", .user = "<start_of_turn>user\n",
                        .user_end = "<end_of_turn>\n", .open = "<start_of_turn>model\n",
                        .answer_end = "<end_of_turn>", .trim = true, .own_end = true},
    [TEMPLATE_LLAMA2] = {"llama2", .folded = true, .system = "<<SYS>>\n",
                         .system_end = "\n<</SYS>>\n\n", .user = "<s>[INST] ",
                         .user_end = " [/INST]", .answer = " ", .answer_end = " ", .trim = true},
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

static char *known_names(void) {
    Text names = {0};
    for (int i = 0; i < TEMPLATES; i++) text_put(&names, "%s%s", i ? ", " : "", formats[i].name);
    return text_take(&names);
}

int template_by_name(const char *name, Template *out) {
    for (int i = 0; i < TEMPLATES; i++)
        if (strcmp(formats[i].name, name) == 0) {
            *out = (Template)i;
            return 0;
        }
    AUTOFREE char *known = known_names();
    return error_set(ERR_CONFIG, "no chat template \"%s\"; there are %s", name, known);
}

/* --- in the Jinja language ------------------------------------------------------------------- */

/* What the text of a model's template holds, and what it does not. The last of qwen3's is how it
 * drops the thoughts of earlier answers. */
static const struct {
    Template is;
    const char *has[4], *lacks[5];
} jinjas[] = {
    {TEMPLATE_SMOLLM2,
     {SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face" IM_END "\n",
      "['role']", "['content'] + '" IM_END "'"},
     {"<think>", "tools"}},
    {TEMPLATE_QWEN2,
     {SYSTEM "You are a helpful assistant." IM_END "\n", "['content'] + '" IM_END "'"},
     {"<think>", "tools"}},
    {TEMPLATE_QWEN25,
     {SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant." IM_END "\n",
      "'" IM_START "' + message.role + '\n' + message.content + '" IM_END "'"},
     {"<think>", "vision_start"}},
    {TEMPLATE_QWEN3,
     {"enable_thinking is false", "'" THINK "'", "last_query_index",
      "(not loop.last and reasoning_content)"},
     {"vision_start", "You are a", "<function="}},
    {TEMPLATE_CHATML,
     {"for message in messages",
      "'" IM_START "' + message['role'] + '\n' + message['content'] + '" IM_END "'"},
     {SYSTEM, "tool", "think", "eos_token", "trim"}},
    {TEMPLATE_LLAMA31,
     {"\"" HEADER("system") "\"", "Cutting Knowledge Date: December 2023\n", "26 Jul 2024",
      "message['content'] | trim + '" EOT "'"},
     {"think"}},
    {TEMPLATE_LLAMA3,
     {"'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'",
      "message['content'] | trim + '" EOT "'", "bos_token"},
     {"Knowledge", "tool", "think"}},
    {TEMPLATE_ZEPHYR,
     {"'<|user|>\n' + message['content'] + eos_token",
      "'<|system|>\n' + message['content'] + eos_token", "message['content'] + eos_token",
      "'<|assistant|>'"},
     {"trim", "bos_token"}},
    {TEMPLATE_GEMMA,
     {"bos_token", "<start_of_turn>", "trim", "<end_of_turn>\n"},
     {"tool", "think"}},
    {TEMPLATE_LLAMA2,
     {"'<<SYS>>\n' + system_message + '\n<</SYS>>\n\n'",
      "bos_token + '[INST] ' + content.strip() + ' [/INST]'",
      "' ' + content.strip() + ' ' + eos_token"},
     {"You are", "Vous"}},
};
enum { JINJAS = sizeof jinjas / sizeof *jinjas };

/* With line breaks for their escapes, and no two spaces where one would do. */
static char *plain_jinja(const char *s) {
    Text out = {0};
    for (; *s; s++) {
        const bool line = s[0] == '\\' && s[1] == 'n';
        if (*s == ' ' && out.n > 0 && out.s[out.n - 1] == ' ') continue;
        text_bytes(&out, line ? "\n" : s, 1);
        s += line;
    }
    return text_take(&out);
}

int template_of_jinja(const char *text, Template *out) {
    AUTOFREE char *plain = plain_jinja(text);
    for (int i = 0; i < JINJAS; i++) {
        bool is = true;
        for (int k = 0; k < 4 && jinjas[i].has[k]; k++)
            is &= strstr(plain, jinjas[i].has[k]) != NULL;
        for (int k = 0; k < 5 && jinjas[i].lacks[k]; k++) is &= !strstr(plain, jinjas[i].lacks[k]);
        *out = jinjas[i].is;
        if (is) return 0;
    }
    AUTOFREE char *known = known_names();
    return error_set(
        ERR_DATA,
        "the model's chat template (\"%.40s...\") is none of those that are known; say "
        "which it is with --template: %s",
        text, known);
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
    if (c->data_template <= TEMPLATE_ROLES) *out = (Template)c->data_template; /* else parent */
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
    Text text;       /* ordinary text that is not encoded yet */
    TextPlace place; /* of it */
} ChatPart;

/* Python's white space at the beginning, or the end, of s[0, n). */
static size_t space_at(const char *s, size_t n, bool end) {
    static const char *const spaces[] = {
        "\t",     "\n",     "\v",       "\f",     "\r",     "\x1c",   "\x1d",   "\x1e",
        "\x1f",   " ",      "\xc2\x85", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002",
        "\u2003", "\u2004", "\u2005",   "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
        "\u2028", "\u2029", "\u202f",   "\u205f", "\u3000"};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        const size_t k = strlen(spaces[i]);
        if (k <= n && memcmp(end ? s + n - k : s, spaces[i], k) == 0) return k;
    }
    return 0;
}

/* The user's words: never read for special tokens. */
static void part_user(ChatPart *p, const struct TemplateFormat *f, const char *s) {
    size_t n = strlen(s);
    if (f->trim) {
        for (size_t k; (k = space_at(s, n, false)) > 0; s += k) n -= k;
        for (size_t k; (k = space_at(s, n, true)) > 0;) n -= k;
    }
    text_bytes(&p->text, s, n);
}

static int part_flush(ChatPart *p) {
    size_t n = p->text.n;
    p->text.n = 0;
    if (n == 0) return 0;
    TRY(tokenizer_encode_at(p->tk, p->place, p->text.s, n, false, p->out));
    p->place = TEXT_GOES_ON;
    return 0;
}

static int part_special(ChatPart *p, int32_t id) {
    TRY(part_flush(p));
    ids_push(p->out, id);
    p->place = TEXT_AFTER_SPECIAL;
    return 0;
}

/* The longest special token that begins at s; -1: none. They are written in brackets. */
static int32_t special_at(const Tokenizer *tk, const char *s, size_t *len) {
    char token[64];
    if (*s != '<' && *s != '[') return -1;
    for (size_t n = strnlen(s, sizeof token - 1); n > 2; n--) {
        if (s[n - 1] != '>' && s[n - 1] != ']') continue;
        memcpy(token, s, n);
        token[n] = '\0';
        int32_t id = tokenizer_added(tk, token);
        if (id < 0) continue;
        *len = n;
        return id;
    }
    return -1;
}

static int need_eos(const Tokenizer *tk, int32_t *eos) {
    *eos = tokenizer_eos(tk);
    if (*eos >= 0) return 0;
    return error_set(ERR_CONFIG, "the tokenizer has no end-of-text token, which ends every answer; "
                                 "rhetor-data tokenizer makes one that has it");
}

/* The template's own words. Its markers become single ids where the tokenizer has them. */
static int part_marker(ChatPart *p, const char *s) {
    for (size_t len; s && *s; s += len) {
        len = 1;
        int32_t id = special_at(p->tk, s, &len);
        if (*s == *TEMPLATE_EOS) TRY(need_eos(p->tk, &id));
        if (id >= 0)
            TRY(part_special(p, id));
        else
            text_bytes(&p->text, s, len);
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

const char *template_end(const struct TemplateFormat *f) {
    const char *end = f->answer_end ? f->answer_end : "";
    return end[strspn(end, " \n")] ? end : "";
}

int32_t template_stop(Template tp, const Tokenizer *tk) {
    const struct TemplateFormat *f = template_format(tp);
    return f->own_end ? tokenizer_added(tk, f->answer_end) : tokenizer_eos(tk);
}

/* The end of an answer: the template's words, then end of text where they are not that token. */
static int add_end(const struct TemplateFormat *f, ChatPart *p) {
    int32_t stop = tokenizer_eos(p->tk);
    if (!f->own_end) TRY(need_eos(p->tk, &stop));
    if (f->own_end && tokenizer_added(p->tk, f->answer_end) < 0)
        return error_set(ERR_CONFIG,
                         "the tokenizer has no token %s, which ends answers in the template %s; "
                         "choose another template",
                         f->answer_end, f->name);
    TRY(part_marker(p, f->answer_end));
    TRY(part_flush(p));
    if (!f->own_end && (p->out->n == 0 || p->out->v[p->out->n - 1] != stop))
        TRY(part_special(p, stop));
    return 0;
}

/* What an answer says that was thought, from *from to *to, and where the rest of it begins; false:
 * nothing. As Qwen 3's template finds them. */
static bool thoughts(const char *text, const char **from, const char **to, const char **rest) {
    const char *first = strstr(text, "</think>"), *last = first;
    if (!first) return false;
    for (const char *next; (next = strstr(last + 1, "</think>"));) last = next;
    *from = text;
    for (const char *at = text; (at = strstr(at, "<think>")) && at < first; at++) *from = at + 7;
    *to = first;
    while (*to > *from && (*to)[-1] == '\n') --*to;
    while (*from < *to && **from == '\n') ++*from;
    *rest = last + 8 + strspn(last + 8, "\n");
    return true;
}

/* `last`: what is thought is said only before the last answer. */
static int add_answer(const struct TemplateFormat *f, ChatPart *p, const char *text, bool ended,
                      bool last) {
    TRY(part_marker(p, f->answer));
    const char *from, *to;
    if (f->think) {
        const bool said = thoughts(text, &from, &to, &text);
        if (last && said && !f->think_in_prompt) {
            TRY(part_marker(p, "<think>"));
            text_put(&p->text, "\n%.*s\n", (int)(to - from), from);
            TRY(part_marker(p, "</think>"));
            text_put(&p->text, "\n\n");
        } else if (last && !f->think_in_prompt) {
            TRY(part_marker(p, f->think));
        }
        if (last) text += strspn(text, "\n");
    }
    part_user(p, f, text);
    return ended ? add_end(f, p) : part_flush(p);
}

/* A message of the system or the user. *folded: the user's turn has been opened. */
static int add_question(const struct TemplateFormat *f, ChatPart *p, const Message *m, bool system,
                        bool *folded) {
    if (system && f->folded) {
        TRY(part_marker(p, f->user));
        TRY(part_marker(p, f->system));
        text_bytes(&p->text, m->content, strlen(m->content));
        *folded = true;
        return part_marker(p, f->system_end);
    }
    if (!*folded) TRY(part_marker(p, system ? f->system : f->user));
    *folded = false;
    part_user(p, f, m->content);
    return part_marker(p, system ? f->system_end : f->user_end);
}

/* Appends messages 0..nmsg-1; `learn` (may be NULL) collects a byte a token. With `open` the
 * assistant's turn is opened at the end. */
static int add_turns(const struct TemplateFormat *f, ChatPart *p, const Message *m, int nmsg,
                     bool open, uint8_t **learn, int64_t *prompt) {
    int64_t marked = p->out->n; /* tokens that have their byte in *learn */
    bool folded = false;
    TRY(part_marker(p, f->begin));
    for (int i = 0; i < nmsg; i++) {
        Role role = ROLE_USER;
        TRY(role_of(m[i].role, &role));
        if (i == 0 && role != ROLE_SYSTEM) TRY(part_marker(p, f->no_system));
        if (i > 0 && role != ROLE_ASSISTANT && strcmp(m[i - 1].role, "assistant") == 0)
            TRY(part_marker(p, f->again));
        if (role != ROLE_ASSISTANT) {
            TRY(add_question(f, p, &m[i], role == ROLE_SYSTEM, &folded));
            continue;
        }
        const bool last = i == nmsg - 1 && !open;
        TRY(part_marker(p, f->open));
        if (last && f->think_in_prompt) TRY(part_marker(p, f->think));
        TRY(part_flush(p));
        int64_t begin = p->out->n;
        TRY(add_answer(f, p, m[i].content, true, last));
        if (prompt) *prompt = begin;
        if (learn) {
            *learn = xrealloc(*learn, (size_t)p->out->n);
            memset(*learn + marked, 0, (size_t)(begin - marked));
            memset(*learn + begin, 1, (size_t)(p->out->n - begin));
            marked = p->out->n;
        }
    }
    if (open) TRY(part_marker(p, f->open));
    if (open && f->think_in_prompt) TRY(part_marker(p, f->think));
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
    ChatPart p = {.tk = tk, .out = out, .place = TEXT_GOES_ON};
    int rc = add_answer(template_format(tp), &p, text, true, true);
    free(p.text.s);
    return rc;
}

int template_unfinished(Template tp, const Tokenizer *tk, const char *text, IdList *out) {
    ChatPart p = {.tk = tk, .out = out, .place = TEXT_GOES_ON};
    int rc = add_answer(template_format(tp), &p, text, false, true);
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
    AUTOFREE int32_t *known = xmalloc((size_t)(n + 1) * sizeof *known);
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < tokenizer_vocab(tk)) known[k++] = ids[i];
    int rc = tokenizer_decode(tk, known, k, true, text, NULL);
    return rc;
}

int template_decode(Template tp, const Tokenizer *tk, const int32_t *ids, int64_t n, char **text) {
    const struct TemplateFormat *f = template_format(tp);
    const char *after = template_end(f), *before = f->answer ? f->answer : "";
    int32_t eos = tokenizer_eos(tk), end = tokenizer_added(tk, after);
    int64_t stop = 0;
    while (stop < n && (eos < 0 || ids[stop] != eos) && (end < 0 || ids[stop] != end)) stop++;
    TRY(template_text(tk, ids, stop, text));
    char *cut = *after ? strstr(*text, after) : NULL;
    if (cut) *cut = '\0';
    size_t skip = tokenizer_drops_space(tk) ? 0 : strlen(before);
    if (skip > 0 && strncmp(*text, before, skip) == 0)
        memmove(*text, *text + skip, strlen(*text) - skip + 1);
    return 0;
}
