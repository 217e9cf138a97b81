/* template_format.h: what stands around the contents of messages. For template.c and answer_stream.c. */
#ifndef DATA_TEMPLATE_FORMAT_H
#define DATA_TEMPLATE_FORMAT_H

#include "data/template.h"

/* In the words of a template, the tokenizer's end of text. */
#define TEMPLATE_EOS "\3"

/* NULL is "". */
struct TemplateFormat {
    const char *name;
    const char *system, *system_end;
    const char *again; /* before a turn that comes after an answer and its end */
    const char *user, *user_end;
    const char *open; /* the assistant's turn; end of the prompt part */
    const char *answer, *answer_end;

    /* of published models */
    const char *begin;     /* before all */
    const char *no_system; /* where the first message is not the system's */
    const char *think;     /* before the last answer, unless it says what was thought */
    bool think_in_prompt;  /* and not the model's to say */
    bool folded;           /* the system's message stands within the first user's */
    bool trim;             /* white space around contents is dropped */
    bool own_end;          /* answers end with answer_end, not the tokenizer's end of text */
};
const struct TemplateFormat *template_format(Template t);
/* The words of it that end an answer in text; "" where they are but white space. */
const char *template_end(const struct TemplateFormat *f);

#endif
