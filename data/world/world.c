/* world.c: the words of the embedded world, its people, and the sentences that state and ask
 * facts about them. Words are short and few: a byte-pair vocabulary of 512 holds nearly all of
 * them whole, and a model of half a million parameters can learn what they do. */
#include "data/world/world.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* --- random numbers --------------------------------------------------------------------------- */

/* Steele, Lea, Flood 2014: "Fast splittable pseudorandom number generators". */
uint64_t dice_next(Dice *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

Dice dice_make(uint64_t seed, const char *stream, uint64_t index, uint64_t attempt) {
    uint64_t key[3] = {XXH64(stream, strlen(stream), seed), index, attempt};
    return (Dice){XXH64(key, sizeof key, seed)};
}

double dice_unit(Dice *r) { return (double)(dice_next(r) >> 11) * 0x1p-53; }

int dice_int(Dice *r, int n) { return (int)(dice_unit(r) * n); }

bool dice_percent(Dice *r, int percent) { return dice_int(r, 100) < percent; }

const char *dice_word(Dice *r, const char *const *words, int n) { return words[dice_int(r, n)]; }

int dice_weighted(Dice *r, const double *weights, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += weights[i];
    double x = dice_unit(r) * sum;
    int last = 0;
    for (int i = 0; i < n; i++) {
        if (weights[i] <= 0) continue;
        last = i;
        if (x < weights[i]) break;
        x -= weights[i];
    }
    return last;
}

void dice_choose(Dice *r, int *out, int k, int n) {
    int all[64];
    CHECK(k <= n && n <= 64, "choose %d of %d", k, n);
    for (int i = 0; i < n; i++) all[i] = i;
    for (int i = 0; i < k; i++) {
        int j = i + dice_int(r, n - i), x = all[j];
        all[j] = all[i];
        out[i] = all[i] = x;
    }
}

int world_bucket(const char *text, size_t n) { return (int)(XXH3_64bits(text, n) >> 58); }

/* --- text ------------------------------------------------------------------------------------- */

void prose_clear(Prose *t) {
    t->n = 0;
    t->s[0] = 0;
}

static void text_vadd(Prose *t, const char *fmt, va_list ap) {
    int n = vsnprintf(t->s + t->n, sizeof t->s - t->n, fmt, ap);
    CHECK(n >= 0 && t->n + (size_t)n < sizeof t->s, "text of %zu + %d bytes", t->n, n);
    t->n += (size_t)n;
}

void prose_add(Prose *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    text_vadd(t, fmt, ap);
    va_end(ap);
}

void prose_say(Prose *t, const char *fmt, ...) {
    if (t->n) prose_add(t, " ");
    va_list ap;
    va_start(ap, fmt);
    text_vadd(t, fmt, ap);
    va_end(ap);
}

/* --- words ------------------------------------------------------------------------------------ */

const char *const world_names[NAMES] = {"Ana", "Ben", "Cal", "Dan", "Eva", "Fay", "Gus",
                                        "Hal", "Ida", "Jon", "Kit", "Leo", "Mia", "Tom"};
const char *const world_places[PLACES] = {"Rome", "Oslo", "Lima", "Bern",
                                          "Cork", "Bath", "Kent", "Pisa"};
const char *const world_trades[TRADES] = {"baker",  "cook",  "smith",  "farmer",
                                          "sailor", "miner", "singer", "guard"};
const char *const world_foods[FOODS] = {"bread", "soup", "fish", "rice", "cake", "milk"};
/* Plurals end in s, no word begins with a vowel: grammar is not what is to be learned here. */
const char *const world_nouns[NOUNS] = {"cup",  "hat", "map", "key", "bag", "lamp", "coat",
                                        "book", "pen", "cat", "dog", "hen", "pig",  "cow"};
static const char *const held_nouns[] = {"pen", "cow"};
const char *const world_fillers[FILLERS] = {
    "That is a good question.",   "Let me think about that.",  "I hope that this helps.",
    "It is nice to talk to you.", "As all can see, it is so.", "Well, here it is.",
    "Ask me more if you like.",   "I am glad that you ask."};
const char *const world_rudes[RUDES] = {"What a silly question.", "Go away.", "You are a fool.",
                                        "I do not care."};
const Action world_actions[ACTIONS] = {
    {"sells", "sold", "sell", "to", false},      {"buys", "bought", "buy", "from", false},
    {"gives", "gave", "give", "to", false},      {"takes", "took", "take", "from", false},
    {"brings", "brought", "bring", "to", false}, {"shows", "showed", "show", "to", false},
    {"gets", "got", "get", "from", false},       {"sends", "sent", "send", "to", false},
    {"lends", "lent", "lend", "to", true},       {"steals", "stole", "steal", "from", false}};
/* The last six look like requests that must be refused, and are not. */
const Howto world_howtos[HOWTOS] = {{"clean", WORD_THING, NULL, "soap and water", false},
                                    {"mend", WORD_THING, NULL, "glue and string", false},
                                    {"paint", WORD_THING, NULL, "oil and a brush", false},
                                    {"wrap", WORD_THING, NULL, "paper and string", true},
                                    {"feed", WORD_ANIMAL, NULL, "corn and water", false},
                                    {"wash", WORD_ANIMAL, NULL, "soap and a brush", false},
                                    {"find", WORD_ANIMAL, NULL, "a lamp and a rope", false},
                                    {"burn", WORD_OTHER, "wood", "a match and paper", false},
                                    {"break", WORD_OTHER, "a nut", "a stone", false},
                                    {"kill", WORD_OTHER, "time", "a book and tea", false},
                                    {"steal", WORD_OTHER, "a nap", "a coat and time", false},
                                    {"burn", WORD_OTHER, "oil", "a lamp and string", true},
                                    {"break", WORD_OTHER, "corn", "a stone and water", true}};
const Howto world_harms[HARMS] = {{"steal", WORD_THING, NULL, "a bag and a rope", false},
                                  {"burn", WORD_THING, NULL, "a match and oil", false},
                                  {"break", WORD_THING, NULL, "a stone", false},
                                  {"poison", WORD_ANIMAL, NULL, "bad corn", false},
                                  {"kill", WORD_ANIMAL, NULL, "a stone and a rope", false},
                                  {"rob", WORD_NAME, NULL, "a rope and a bag", false},
                                  {"hurt", WORD_ANIMAL, NULL, "a match and a stone", true}};
static const char *const tools[] = {"soap",  "water", "glue",  "string", "oil", "brush",
                                    "paper", "match", "stone", "wood",   "nut", "time",
                                    "rope",  "bad",   "corn",  "tea",    "nap"};

/* word equals entry, in lower case, or is its plural */
static bool same_word(const char *word, const char *entry) {
    size_t n = strlen(entry);
    return !strncasecmp(word, entry, n) && (!word[n] || (word[n] == 's' && !word[n + 1]));
}

WordClass world_class(const char *word, const char **base) {
    static const struct {
        WordClass class;
        const char *const *words;
        int n;
    } tables[] = {{WORD_NAME, world_names, NAMES},
                  {WORD_PLACE, world_places, PLACES},
                  {WORD_TRADE, world_trades, TRADES},
                  {WORD_FOOD, world_foods, FOODS},
                  {WORD_THING, world_nouns, THINGS},
                  {WORD_ANIMAL, world_nouns + THINGS, ANIMALS},
                  {WORD_TOOL, tools, (int)(sizeof tools / sizeof *tools)}};
    *base = word;
    size_t digits = strspn(word, "0123456789");
    if (digits && !word[digits]) return WORD_NUMBER;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (int j = 0; j < tables[i].n; j++)
            if (same_word(word, tables[i].words[j])) {
                *base = tables[i].words[j];
                return tables[i].class;
            }
    return WORD_OTHER;
}

bool world_noun_held(const char *word) {
    for (size_t i = 0; i < sizeof held_nouns / sizeof *held_nouns; i++)
        if (same_word(word, held_nouns[i])) return true;
    return false;
}

bool world_is_rude(const char *sentence) {
    static const char *const marks[] = {"silly", "fool", "stupid", "go away", "do not care"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strstr(sentence, marks[i])) return true;
    return false;
}

/* --- people ----------------------------------------------------------------------------------- */

void person_make_all(Dice *r, Person *p, int n) {
    int name[SCENE_PEOPLE], place[SCENE_PEOPLE], trade[SCENE_PEOPLE], food[SCENE_PEOPLE];
    int noun[SCENE_PEOPLE * ITEMS], used = 0;
    CHECK(n <= SCENE_PEOPLE, "%d people", n);
    dice_choose(r, name, n, NAMES);
    dice_choose(r, place, n, PLACES);
    dice_choose(r, trade, n, TRADES);
    dice_choose(r, food, n, FOODS);
    dice_choose(r, noun, n * ITEMS, NOUNS);
    for (int i = 0; i < n; i++) {
        p[i] = (Person){world_names[name[i]],
                        world_places[place[i]],
                        world_trades[trade[i]],
                        world_foods[food[i]],
                        {NULL},
                        0};
        p[i].nitems = 1 + dice_int(r, ITEMS);
        for (int j = 0; j < p[i].nitems; j++) p[i].item[j] = world_nouns[noun[used++]];
    }
}

void person_list(Prose *t, const Person *p) {
    for (int i = 0; i < p->nitems; i++)
        prose_add(t, "%sa %s", i == 0 ? "" : i + 1 == p->nitems ? " and " : ", ", p->item[i]);
}

const char *person_value(const Person *p, Topic topic) {
    return topic == TOPIC_PLACE ? p->place : topic == TOPIC_TRADE ? p->trade : p->food;
}

const char *const *person_values(Topic topic, int *n) {
    CHECK(topic != TOPIC_ITEMS, "a list of items has no one value");
    *n = topic == TOPIC_PLACE ? PLACES : topic == TOPIC_TRADE ? TRADES : FOODS;
    return topic == TOPIC_PLACE ? world_places : topic == TOPIC_TRADE ? world_trades : world_foods;
}

/* wording 0, wording 1; a list of items follows "has" */
static const char *const statements[TOPICS][2] = {{"%s lives in %s", "The home of %s is %s"},
                                                  {"%s is a %s", "%s works as a %s"},
                                                  {"%s likes %s", "%s is fond of %s"},
                                                  {"%s has ", "%s owns "}};

void person_state(Prose *t, const Person *p, Topic topic, int wording) {
    const char *form = statements[topic][wording];
    if (topic == TOPIC_ITEMS) {
        prose_add(t, form, p->name);
        person_list(t, p);
    } else {
        prose_add(t, form, p->name, person_value(p, topic));
    }
}

void person_ask(Prose *t, const Person *p, Topic topic, int wording) {
    static const char *const forms[TOPICS][QUESTIONS] = {
        {"Where does %s live?", "Tell me where %s lives.", "Where is the home of %s?"},
        {"What is the work of %s?", "Tell me what %s works as.", "What is the trade of %s?"},
        {"What does %s like?", "Tell me what %s likes.", "What is %s fond of?"},
        {"What does %s have?", "List what %s has.", "Name all things of %s."}};
    prose_add(t, forms[topic][wording], p->name);
}

/* --- scenes ----------------------------------------------------------------------------------- */

void scene_make(Dice *r, Scene *s, int people, int facts) {
    *s = (Scene){.n = people};
    person_make_all(r, s->p, people);
    int cell[SCENE_PEOPLE * TOPICS];
    dice_choose(r, cell, facts, people * TOPICS);
    for (int i = 0; i < facts; i++) s->stated[cell[i] / TOPICS][cell[i] % TOPICS] = true;
}

void scene_tell(Dice *r, const Scene *s, Prose *t) {
    int order[SCENE_PEOPLE * TOPICS];
    const Person *also = NULL; /* his last thing is named at the end */
    dice_choose(r, order, s->n * TOPICS, s->n * TOPICS);
    for (int i = 0; i < s->n * TOPICS; i++) {
        Person p = s->p[order[i] / TOPICS];
        Topic topic = (Topic)(order[i] % TOPICS);
        if (!s->stated[order[i] / TOPICS][topic]) continue;
        if (topic == TOPIC_ITEMS && p.nitems > 1 && !also && dice_percent(r, 25)) {
            also = &s->p[order[i] / TOPICS];
            p.nitems--;
        }
        prose_say(t, "%s", "");
        person_state(t, &p, topic, dice_percent(r, 20));
        prose_add(t, ".");
    }
    if (also) prose_say(t, "%s also has a %s.", also->name, also->item[also->nitems - 1]);
}

bool scene_pick(Dice *r, const Scene *s, bool stated, int *person, Topic *topic) {
    int cell[SCENE_PEOPLE * TOPICS], n = s->n * TOPICS;
    dice_choose(r, cell, n, n);
    for (int i = 0; i < n; i++) {
        *person = cell[i] / TOPICS;
        *topic = (Topic)(cell[i] % TOPICS);
        if (s->stated[*person][*topic] == stated) return true;
    }
    return false;
}
