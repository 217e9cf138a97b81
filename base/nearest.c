/* nearest.c: "did you mean". See nearest.h. */
#include "base/nearest.h"

#include <stddef.h>
#include <string.h>

#include "base/error.h"

enum { LONGEST_WORD = 63 };

int nearest_distance(const char *a, const char *b) {
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST_WORD || m > LONGEST_WORD) return LONGEST_WORD;
    int d[LONGEST_WORD + 1][LONGEST_WORD + 1];
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

/* Slips that a word of this length may contain. */
static int near_enough(const char *word) {
    int n = (int)strlen(word) / 4;
    return n < 1 ? 1 : n > 3 ? 3 : n;
}

const char *nearest_word(const char *word, const char *const *words, int n) {
    const char *best = NULL;
    int least = near_enough(word) + 1;
    for (int i = 0; i < n; i++) {
        int d = nearest_distance(word, words[i]);
        if (d >= least) continue;
        best = words[i];
        least = d;
    }
    return best;
}

char *nearest_hint(const char *word, const char *const *words, int n) {
    const char *meant = nearest_word(word, words, n);
    return meant ? xasprintf("; did you mean %s?", meant) : xstrdup("");
}
