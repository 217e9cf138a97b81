/* label_form.h: what is asked about each completion, from a YAML of the lab's own:
 *
 *   instructions: "Read the prompt, then each answer."
 *   quality: {low: 1, high: 7, label: Overall quality, label_zh: ..., required: true}
 *   flags:
 *     - {name: hallucination, label: Hallucination, label_zh: ...}
 *   ranking: true
 *
 * Without a file: InstructGPT's form (Ouyang 2022, appendix B). */
#ifndef SERVE_HTTP_LABEL_FORM_H
#define SERVE_HTTP_LABEL_FORM_H

#include <jansson.h>

enum { LABEL_COMPLETIONS = 9, LABEL_FLAGS = 32 };

/* A new reference; path NULL: InstructGPT's. ERR_CONFIG with the place, ERR_IO. */
int label_form_read(json_t **out, const char *path);

/* An answer about k completions, or a demonstration (k = 0), as the page sends it:
 *   {"rank": [k], "quality": [k], "flags": [k][], "note": ""}   or   {"prompt": "", "completion": ""}
 * *out: a new reference, checked, with ranks 1, 2, ... without gaps. ERR_DATA says what is missing. */
int label_form_check(json_t **out, const json_t *form, const json_t *body, int k);
/* Of it the ranks alone. */
int label_form_ranks(json_t **out, const json_t *body, int k);

#endif
