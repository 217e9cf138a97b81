/* world_probe.h: questions about the embedded world in the form of its documents, each with one
 * right value among all of its kind: what a language model must be able to read before anything
 * else that it does with a text means anything. */
#ifndef DATA_WORLD_WORLD_PROBE_H
#define DATA_WORLD_WORLD_PROBE_H

#include <stdint.h>

typedef enum ProbeKind {
    PROBE_LOOKUP,  /* "... Where does Ana live? Ana lives in": nobody else's home is told */
    PROBE_BINDING, /* the same where another person's home is told as well */
    PROBE_COPY,    /* as binding, but the fact is said once more without having been asked for */
    PROBE_PLUS,    /* "... 3 plus 4 is": the sums are the documents', the text before is new */
    PROBE_MINUS,
    PROBE_KINDS
} ProbeKind;
extern const char *const world_probe_names[PROBE_KINDS]; /* "look-up", ... */

enum { PROBE_VALUES = 32, PROBE_VALUE = 24, PROBE_GROUPS = 4 };
typedef struct Probe {
    char text[2048];                       /* a document up to the value */
    char value[PROBE_VALUES][PROBE_VALUE]; /* [n] " Rome.", ...: with the stop, or 1 beats 14 */
    int n, right;
    /* Probes that a reader of nothing but the last sentence cannot tell apart: the best constant
     * answers each group's most frequent value. */
    int group; /* 0 .. PROBE_GROUPS-1 */
} Probe;

/* Probe `index` of a kind, a function of (seed, kind, index). Right values come in turn, so that a
 * constant is right as seldom as it can be. No document of documents.jsonl, of whatever seed, tells
 * the story of a probe. */
void world_probe(Probe *p, uint64_t seed, ProbeKind kind, uint64_t index);

#endif
