/* nearest.h: "did you mean". */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

/* Insertions, deletions, replacements and swaps of neighbours that make a out of b. */
int nearest_distance(const char *a, const char *b);

/* The one of words[n] that `word` was probably meant to be: the nearest, if it is near enough for a
 * slip of the finger; NULL if none is. */
const char *nearest_word(const char *word, const char *const *words, int n);
/* "; did you mean X?" for the end of a message, "" if none is; malloc'd. */
char *nearest_hint(const char *word, const char *const *words, int n);

#endif
