/* world.h: the small world that synth.c writes about and gold.c judges: its words, its people,
 * its facts. Private to data/. */
#ifndef DATA_WORLD_WORLD_H
#define DATA_WORLD_WORLD_H

#include "data/world/gold.h"
#include "data/world/synth.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- random numbers: splitmix64 from a hash of (seed, stream, index, attempt) ----------------- */
typedef struct Dice {
    uint64_t state;
} Dice;
Dice dice_make(uint64_t seed, const char *stream, uint64_t index, uint64_t attempt);
uint64_t dice_next(Dice *r);
int dice_int(Dice *r, int n); /* 0 .. n-1 */
double dice_unit(Dice *r);    /* [0, 1) */
bool dice_percent(Dice *r, int percent);
const char *dice_word(Dice *r, const char *const *words, int n);
int dice_weighted(Dice *r, const double *weights, int n);
void dice_choose(Dice *r, int *out, int k,
                 int n); /* k different ones of 0 .. n-1, in random order */

/* --- text ------------------------------------------------------------------------------------- */
typedef struct Prose {
    size_t n;
    char s[2048];
} Prose;
void prose_clear(Prose *t);
void prose_add(Prose *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a sentence: a space before it unless the text is empty. */
void prose_say(Prose *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- words ------------------------------------------------------------------------------------ */
typedef enum WordClass {
    WORD_OTHER,
    WORD_NAME,
    WORD_PLACE,
    WORD_TRADE,
    WORD_FOOD,
    WORD_THING,
    WORD_ANIMAL,
    WORD_TOOL,
    WORD_NUMBER
} WordClass;
enum {
    NAMES = 14,
    PLACES = 8,
    TRADES = 8,
    FOODS = 6,
    THINGS = 9,
    ANIMALS = 5,
    ACTIONS = 10,
    HOWTOS = 13,
    ALIKES = 6, /* the last of them look like harms */
    HARMS = 7,
    RUDES = 4,
    FILLERS = 8,
    NOUNS = THINGS + ANIMALS
};
extern const char *const world_names[NAMES],
    *const world_places[PLACES], *const world_trades[TRADES], *const world_foods[FOODS];
extern const char *const world_nouns[NOUNS]; /* things, then animals */
extern const char *const world_rudes[RUDES], *const world_fillers[FILLERS];

/* Words that are `held` occur in documents, but in no instruction other than those of evaluation:
 * what is learned from instructions must carry over to them. */

/* "sells", "sold", "sell", "to"; the last entry is a misdeed. */
typedef struct Action {
    const char *now, *past, *plain, *preposition;
    bool held;
} Action;
extern const Action world_actions[ACTIONS];

/* How something is done. target: a noun class, or the one object that it is about. */
typedef struct Howto {
    const char *verb;
    WordClass target;
    const char *object; /* instead of a class */
    const char *use;    /* "soap and water" */
    bool held;
} Howto;
extern const Howto world_howtos[HOWTOS], world_harms[HARMS];

/* Whether a lower-case word is one of the held nouns (singular or plural). */
bool world_noun_held(const char *word);
/* The class of a lower-case word; the word's table form (lower case, singular) in *base. */
WordClass world_class(const char *word, const char **base);
bool world_is_rude(const char *sentence); /* lower-case words, one space between */

/* --- people and what is said about them ------------------------------------------------------- */
enum { ITEMS = 3 };
typedef struct Person {
    const char *name, *place, *trade, *food; /* NULL: nobody says */
    const char *item[ITEMS];
    int nitems;
} Person;
typedef enum Topic { TOPIC_PLACE, TOPIC_TRADE, TOPIC_FOOD, TOPIC_ITEMS, TOPICS } Topic;

/* n people with different names and all topics filled, no two alike in any. */
void person_make_all(Dice *r, Person *p, int n);
/* The sentence without its stop: "Ana lives in Rome"; wording 0 is the plain one. */
void person_state(Prose *t, const Person *p, Topic topic, int wording);
void person_list(Prose *t, const Person *p); /* "a cup, a map and a key" */
/* "Where does Ana live"; wordings 0 .. QUESTIONS-1. */
enum { QUESTIONS = 3 };
void person_ask(Prose *t, const Person *p, Topic topic, int wording);
const char *person_value(const Person *p, Topic topic); /* not for TOPIC_ITEMS */
const char *const *person_values(Topic topic, int *n);  /* all that there are; as above */

/* A few people, and which of the facts about them the text tells. */
enum { SCENE_PEOPLE = 4 };
typedef struct Scene {
    int n;
    Person p[SCENE_PEOPLE];
    bool stated[SCENE_PEOPLE][TOPICS];
} Scene;
void scene_make(Dice *r, Scene *s, int people, int facts);
void scene_tell(Dice *r, const Scene *s, Prose *t); /* all that is stated, in random order */
/* A random fact that is stated (or is not); false if there is none. */
bool scene_pick(Dice *r, const Scene *s, bool stated, int *person, Topic *topic);

/* --- documents and tasks ---------------------------------------------------------------------- */
/* *story: the length of the facts that it begins with. */
void world_document(Dice *r, Prose *t, size_t *story);
/* Facts of persons who do not come back, each begun anew after some word: what is learned from it
 * is to keep in mind whom a sentence is about, and nothing else. */
void world_primer(Dice *r, Prose *t);

/* Which file a text may be in: a hash of it, 0 .. BUCKETS-1. Documents to train on begin with
 * stories of the first DOCUMENT_BUCKETS; held-out ones and probes have the others. */
enum { BUCKETS = 64, DOCUMENT_BUCKETS = 60 };
int world_bucket(const char *text, size_t n);

/* A prompt, what gold must know, and the makings of demonstrations of any quality. */
typedef struct WorldTask {
    Prose before, reply; /* an earlier turn and its answer, or empty */
    Prose prompt;
    int held; /* above 0: has something that only evaluation prompts may have; gold.held says what */
    bool held_beside; /* such a word is in wrong or extra */
    Gold gold;
    Prose ideal, partial, wrong, extra; /* extra: a sentence that the text does not bear out */
} WorldTask;
/* "a cup", "Ben", "wood": what h is done to */
void task_howto_object(Dice *r, const Howto *h, Prose *t);
extern const int task_families;
const char *task_family(int i);
void task_make(Dice *r, WorldTask *t);
void task_demonstrate(Dice *r, const WorldTask *t, SynthQuality quality, Prose *out);

#endif
