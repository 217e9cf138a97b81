/* policy.h: answers that a program gives without understanding: what a policy might be tempted
 * to do, and what the gold reward must not pay for. The same answer to everything, copies of the
 * prompt, claims at random, ideal answers spoilt; and the best that is possible without reading the
 * facts of a prompt. */
#ifndef DATA_WORLD_POLICY_H
#define DATA_WORLD_POLICY_H

#include "data/world/gold.h"

typedef enum PolicyKind {
    POLICY_CONSTANT, /* the same whatever is asked */
    POLICY_COPY,     /* a piece of the prompt */
    POLICY_CLAIM,    /* claims about what the prompt tells or asks */
    POLICY_SPOILT,   /* the ideal answer, and something with it */
    POLICY_CHOICE    /* for each family what pays best */
} PolicyKind;

/* The names of all, in the order of their kinds; policy_kind(i) for i below policy_count. */
int policy_count(void);
const char *policy_name(int policy);
PolicyKind policy_kind(int policy);
int policy_find(const char *name); /* -1: none */

/* Answers of policy to n prompts (prompt[i]: its last message). answer[i] is malloc'd. Random ones
 * depend on seed and i. */
void policy_answer(int policy, const Gold *gold, const char *const *prompt, int64_t n,
                   uint64_t seed, char **answer);

/* The text of a record's prompt: its last message. NULL where there is none. */
const char *policy_prompt(const json_t *record);

#endif
