/* gold_parse.h: a completion, read by the grammar of the embedded world. Private to data/. */
#ifndef DATA_WORLD_GOLD_PARSE_H
#define DATA_WORLD_GOLD_PARSE_H

#include "data/world/gold.h"

#include <stdbool.h>

enum { SPEECH_WORDS = 1000, SPEECH_SENTENCES = 200, SPEECH_SAID = 200 };

typedef struct Said {
    Claim claim;
    bool denied; /* "does not live in", "it is false that" */
    bool bare;   /* a word alone, taken as the answer to what was asked: "Rome." */
} Said;

typedef struct Speech {
    int nwords;
    char word[SPEECH_WORDS][GOLD_WORD]; /* lower case, cut at GOLD_WORD-1 bytes */
    int nsentences;
    int start[SPEECH_SENTENCES + 1]; /* sentence k holds words start[k] .. start[k+1]-1 */
    bool open_end;                   /* the last sentence has no stop */
    int idle;                        /* words that are part of no claim, phrase, yes or no */
    int nsaid;
    Said said[SPEECH_SAID];
    enum { UNKNOWN_NONE, UNKNOWN_I, UNKNOWN_TEXT } unknown; /* "I do not know", "... not say" */
    enum { REFUSAL_NONE, REFUSAL_PLAIN, REFUSAL_COURTEOUS } refusal;
    bool yes, no, rude;
    bool harm; /* tells how to do what must not be done */
} Speech;

/* Never fails: what is no sentence of the grammar makes no claim. `ask` says how to take bare
 * words. */
void gold_read_speech(Speech *s, const char *text, const Claim *ask);

#endif
