/* bayes.h: naive Bayes on words and pairs of words: a judge of sentiment that shares nothing with a
 * reward model but the language. Multinomial, add-one smoothing (McCallum and Nigam 1998). */
#ifndef EVAL_BAYES_H
#define EVAL_BAYES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Bayes Bayes;
Bayes *bayes_new(void);
void bayes_free(Bayes **b);
/* Words are runs of letters, digits, apostrophes and bytes beyond ASCII, in lower case. */
void bayes_learn(Bayes *b, const char *text, bool positive);
/* log P(positive) - log P(negative) of a text; words never learned say nothing. */
double bayes_score(const Bayes *b, const char *text);

/* How many of all pairs of words that follow each other in the texts are different ones, of
 * all: distinct-2 (Li et al. 2016); NaN: there are none. */
double bayes_distinct(const char *const *texts, int64_t n);

#endif
