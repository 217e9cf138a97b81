/* template_format.h: what stands around the contents of messages. For template.c and answer_stream.c. */
#ifndef DATA_TEMPLATE_FORMAT_H
#define DATA_TEMPLATE_FORMAT_H

#include "data/template.h"

/* `again`: before a turn that is not the first part's first (after an answer and its EOS). */
struct TemplateFormat {
    const char *name;
    const char *system, *system_end;
    const char *again, *user, *user_end;
    const char *open; /* the assistant's turn; end of the prompt part */
    const char *answer, *answer_end;
};
const struct TemplateFormat *template_format(Template t);

#endif
