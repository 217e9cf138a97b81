/* template.h: chat templates. The template is chosen in SFT and travels with the checkpoint, so
 * every later stage and rhetor-generate use the same one. Prompt and completion are encoded
 * separately and joined, so there is one boundary. User text is encoded with special tokens
 * disabled; the template's own markers may be special tokens. */
#ifndef DATA_TEMPLATE_H
#define DATA_TEMPLATE_H

#include <jansson.h>

#include "base/config.h"
#include "data/tokenizer/tokenizer.h"

/* TEMPLATE_PLAIN: prompt "\n" completion EOS, nothing else. HH: "\n\nHuman: " prompt
 * "\n\nAssistant:" " " completion EOS. ALPACA: "### Instruction:\n" prompt "\n\n### Response:\n"
 * completion EOS. CHATML: "<|im_start|>user\n" prompt "<|im_end|>\n<|im_start|>assistant\n"
 * completion "<|im_end|>" EOS, where EOS is another token. From SMOLLM2 to LLAMA2: those of published
 * models (template.c), whose ids are transformers' apply_chat_template's, but that an answer ends
 * with the token that the model emits, without the line break that some put behind it. (Order: the
 * choices of data.template.) From TEMPLATE_ROLES on: templates of the user's own words, made by
 * template_roles; equal words, equal numbers. */
typedef enum Template {
    TEMPLATE_PLAIN,
    TEMPLATE_CHATML,
    TEMPLATE_HH,
    TEMPLATE_ALPACA,
    TEMPLATE_SMOLLM2,
    TEMPLATE_QWEN2,
    TEMPLATE_QWEN25,
    TEMPLATE_QWEN3,
    TEMPLATE_QWEN3_DIRECT,
    TEMPLATE_LLAMA3,
    TEMPLATE_LLAMA31,
    TEMPLATE_ZEPHYR,
    TEMPLATE_GEMMA,
    TEMPLATE_LLAMA2,
    TEMPLATE_ROLES
} Template;

/* What stands before and after the messages of each role: data.roles. */
enum { TEMPLATE_WORDS = 6 };
typedef union TemplateRoles {
    struct {
        const char *system, *system_end, *user, *user_end, *assistant, *assistant_end;
    };
    const char *word[TEMPLATE_WORDS];
} TemplateRoles;

typedef struct Message {
    const char *role, *content;
} Message; /* roles: system, user, assistant */

const char *template_name(Template t);
int template_by_name(const char *name, Template *out); /* ERR_CONFIG with the choices */
/* The template that a model's own text in the Jinja language is, recognised by what it holds.
 * ERR_DATA with the choices: none of those known. */
int template_of_jinja(const char *text, Template *out);
/* The token that ends an answer: the template's, or the tokenizer's end of text; -1: none. */
int32_t template_stop(Template t, const Tokenizer *tk);
/* The words are copied. Neither user nor assistant has any: ERR_CONFIG. One thread at a time. */
int template_roles(const TemplateRoles *r, Template *out);
/* The template of data.template and data.roles; *t is the parent's before. ERR_CONFIG with the
 * place. */
int template_of_config(const Config *c, Template *t);
/* As checkpoints carry it: the name, or an object with the words of its roles. ERR_CONFIG. */
json_t *template_to_json(Template t);
int template_from_json(const json_t *j, Template *out);

/* Ids of the conversation up to where the assistant's next answer begins. */
int template_prompt(Template tp, const Tokenizer *tk, const Message *m, int nmsg, IdList *out);
/* Ids of an answer, with its end (EOS). */
int template_completion(Template tp, const Tokenizer *tk, const char *text, IdList *out);
/* The same of an answer that was cut off: without its end. */
int template_unfinished(Template tp, const Tokenizer *tk, const char *text, IdList *out);
/* A whole conversation that ends with an assistant's turn; learn[i] = 1 on the tokens of every
 * assistant turn (its end included). *learn is malloc'd, one byte a token. *prompt: tokens before
 * the last assistant turn. */
int template_conversation(Template tp, const Tokenizer *tk, const Message *m, int nmsg, IdList *out,
                          uint8_t **learn, int64_t *prompt);
/* The text of sampled ids without a template, special tokens left out, and, as Hugging Face's
 * decode does, ids that no token has: an imported model can have more rows than its tokenizer
 * tokens. malloc'd. */
int template_text(const Tokenizer *tk, const int32_t *ids, int64_t n, char **text);
/* The text of an answer from its ids: without the end tokens, markers and the space that the
 * template put before it. malloc'd. */
int template_decode(Template tp, const Tokenizer *tk, const int32_t *ids, int64_t n, char **text);

/* The same while the ids come one by one, in pieces that can be shown at once: whole characters,
 * never the beginning of the template's end of an answer. What is no UTF-8 becomes U+FFFD. `raw`:
 * plain text, without a template. Borrows tk. */
typedef struct AnswerStream AnswerStream;
AnswerStream *answer_stream(Template tp, const Tokenizer *tk, bool raw);
/* The piece that `id` completes, "" if none; valid until the next call. */
const char *answer_stream_add(AnswerStream *s, int32_t id);
const char *answer_stream_end(AnswerStream *s); /* what was held back */
void answer_stream_free(AnswerStream **s);

#endif
