/* gold_parse.c: a recursive-descent reader of the world's sentences, one pass a sentence:
 *
 *   sentence  = [yes|no] {clause | any other word}
 *   clause    = NAME predicate {and predicate} | the home of NAME is PLACE
 *             | N (plus|minus) N is N | to VERB OBJECT use TOOLS | use TOOLS
 *   predicate = lives in PLACE | is a TRADE | works as a TRADE | likes FOOD | is fond of FOOD
 *             | has LIST | has N NOUNS | has (more|fewer) NOUNS | PAST NOUN [to|from NAME]
 *
 * or bare words of the kind that was asked for, and the fixed phrases of refusing and of not
 * knowing. Case, articles and commas do not count. Of the other words of a sentence some deny its
 * claims ("it is false that", "not") and some take them back ("or", "maybe"). */
#include "data/world/gold_parse.h"

#include "data/world/world.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* --- words and sentences ---------------------------------------------------------------------- */

static void split(Speech *s, const char *text) {
    const char *p = text, *end = text + strnlen(text, 8192);
    s->open_end = true; /* of an empty text too */
    while (p < end && s->nwords < SPEECH_WORDS) {
        unsigned char c = (unsigned char)*p;
        if (isalnum(c) || c >= 0x80 || c == '\'') {
            char *w = s->word[s->nwords++];
            size_t n = 0;
            for (;
                 p < end && (isalnum((unsigned char)*p) || (unsigned char)*p >= 0x80 || *p == '\'');
                 p++)
                if (n + 1 < GOLD_WORD) w[n++] = (char)tolower((unsigned char)*p);
            w[n] = 0;
            s->open_end = true;
            continue;
        }
        if (strchr(".!?\n", c) && s->nwords > s->start[s->nsentences] &&
            s->nsentences + 1 < SPEECH_SENTENCES) {
            s->start[++s->nsentences] = s->nwords;
            if (c != '\n') s->open_end = false;
            /* a question claims nothing: an empty sentence follows as its mark */
            if (c == '?' && s->nsentences + 1 < SPEECH_SENTENCES)
                s->start[++s->nsentences] = s->nwords;
        } else if (c > ' ' && !strchr(".,!?;:\"", c) && s->nwords < SPEECH_WORDS) {
            snprintf(s->word[s->nwords++], GOLD_WORD, "%c", c); /* stray signs are words */
            s->open_end = true;
        }
        p++;
    }
    if (s->nwords > s->start[s->nsentences]) s->start[++s->nsentences] = s->nwords;
}

/* --- one sentence ----------------------------------------------------------------------------- */

typedef struct GoldReader {
    Speech *s;
    const Claim *ask;
    int i, end; /* next word, end of the sentence */
} GoldReader;

static const char *peek(const GoldReader *r, int ahead) {
    return r->i + ahead < r->end ? r->s->word[r->i + ahead] : "";
}

/* Goes past the words of `phrase` if they come next. */
static bool take(GoldReader *r, const char *phrase) {
    int i = r->i;
    for (const char *p = phrase; *p;) {
        size_t n = strcspn(p, " ");
        if (i >= r->end || strlen(r->s->word[i]) != n || strncmp(r->s->word[i], p, n)) return false;
        i++;
        p += n + (p[n] == ' ');
    }
    r->i = i;
    return true;
}

static void skip_articles(GoldReader *r) {
    while (take(r, "a") || take(r, "an") || take(r, "the")) {
    }
}

/* Words are cut, never refused: what is too long for a Claim is no word of this world. */
static void copy_word(char *to, const char *from) {
    size_t n = strnlen(from, GOLD_WORD - 1);
    memcpy(to, from, n);
    to[n] = 0;
}

/* The table form of a word of the world, any other word as it is. */
static WordClass table_form(const char *word, char *out) {
    const char *base;
    WordClass class = world_class(word, &base);
    copy_word(out, base);
    for (char *c = out; *c; c++) *c = (char)tolower((unsigned char)*c);
    return class;
}

/* The next word (after articles) in its table form, if it is of `class`. */
static bool take_class(GoldReader *r, WordClass class, char *out) {
    int i = r->i;
    skip_articles(r);
    char word[GOLD_WORD];
    if (r->i < r->end && table_form(peek(r, 0), word) == class) {
        copy_word(out, word);
        r->i++;
        return true;
    }
    r->i = i;
    return false;
}

static bool take_noun(GoldReader *r, char *out) {
    return take_class(r, WORD_THING, out) || take_class(r, WORD_ANIMAL, out);
}

static void say(GoldReader *r, const char *subject, const char *relation, const char *object,
                bool denied, bool bare) {
    if (r->s->nsaid == SPEECH_SAID) return;
    Said *said = &r->s->said[r->s->nsaid++];
    copy_word(said->claim.subject, subject);
    copy_word(said->claim.relation, relation);
    copy_word(said->claim.object, object);
    said->denied = denied;
    said->bare = bare;
}

static bool read_has(GoldReader *r, const char *name, bool denied) {
    char word[GOLD_WORD], number[GOLD_WORD], relation[GOLD_WORD + 2];
    take(r, "also");
    take(r, "now");
    int i = r->i;
    const char *order = take(r, "more") ? "more" : take(r, "fewer") ? "fewer" : NULL;
    if (order) {
        if (take_noun(r, word)) return say(r, name, order, word, denied, false), true;
        r->i = i;
        return false;
    }
    if (take_class(r, WORD_NUMBER, number)) {
        if (take_noun(r, word)) {
            snprintf(relation, sizeof relation, "n:%s", word);
            take(r, "now");
            return say(r, name, relation, number, denied, false), true;
        }
        r->i = i;
        return false;
    }
    bool any = false;
    for (;;) {
        i = r->i;
        if (any) take(r, "and");
        if (any) take(r, "also");
        if (!take_noun(r, word)) break;
        say(r, name, "has", word, denied, false);
        any = true;
    }
    r->i = i;
    return any;
}

static bool read_action(GoldReader *r, const char *name) {
    for (int k = 0; k < ACTIONS; k++) {
        int i = r->i;
        char noun[GOLD_WORD], other[GOLD_WORD];
        if (!take(r, world_actions[k].past)) continue;
        if (take_noun(r, noun)) {
            say(r, name, world_actions[k].past, noun, false, false);
            if ((take(r, "to") || take(r, "from")) && !take_class(r, WORD_NAME, other)) r->i--;
            return true;
        }
        r->i = i;
    }
    return false;
}

static bool read_predicate(GoldReader *r, const char *name) {
    char word[GOLD_WORD];
    int i = r->i;
    if (take(r, "lives in") && take_class(r, WORD_PLACE, word))
        return say(r, name, "lives", word, false, false), true;
    r->i = i;
    if (take(r, "does not live in") && take_class(r, WORD_PLACE, word))
        return say(r, name, "lives", word, true, false), true;
    r->i = i;
    if (take(r, "is fond of") && take_class(r, WORD_FOOD, word))
        return say(r, name, "likes", word, false, false), true;
    r->i = i;
    if (take(r, "is not fond of") && take_class(r, WORD_FOOD, word))
        return say(r, name, "likes", word, true, false), true;
    r->i = i;
    if ((take(r, "is not") || take(r, "does not work as")) && take_class(r, WORD_TRADE, word))
        return say(r, name, "is", word, true, false), true;
    r->i = i;
    if ((take(r, "is") || take(r, "works as")) && take_class(r, WORD_TRADE, word))
        return say(r, name, "is", word, false, false), true;
    r->i = i;
    if (take(r, "likes") && take_class(r, WORD_FOOD, word))
        return say(r, name, "likes", word, false, false), true;
    r->i = i;
    if (take(r, "does not like") && take_class(r, WORD_FOOD, word))
        return say(r, name, "likes", word, true, false), true;
    r->i = i;
    if ((take(r, "has") || take(r, "owns")) && read_has(r, name, false)) return true;
    r->i = i;
    if ((take(r, "does not have") || take(r, "does not own")) && read_has(r, name, true))
        return true;
    r->i = i;
    return read_action(r, name);
}

/* "3 plus 4 is 7" */
static bool read_sum(GoldReader *r) {
    char a[GOLD_WORD], b[GOLD_WORD], c[GOLD_WORD], subject[3 * GOLD_WORD];
    int i = r->i;
    if (take_class(r, WORD_NUMBER, a)) {
        const char *op = take(r, "plus") ? "plus" : take(r, "minus") ? "minus" : NULL;
        if (op && take_class(r, WORD_NUMBER, b) && take(r, "is") && take_class(r, WORD_NUMBER, c)) {
            snprintf(subject, sizeof subject, "%s %s %s", a, op, b);
            return say(r, subject, "equals", c, false, false), true;
        }
    }
    r->i = i;
    return false;
}

/* "soap and water"; each word of content is a claim */
static bool read_tools(GoldReader *r, const char *verb, bool bare) {
    bool any = false;
    for (; r->i < r->end; r->i++) {
        const char *base, *word = peek(r, 0);
        if (!strcmp(word, "a") || !strcmp(word, "and")) continue;
        WordClass class = world_class(word, &base);
        if (class != WORD_TOOL && class != WORD_FOOD && class != WORD_THING) break;
        say(r, verb, "use", base, false, bare);
        any = true;
    }
    return any;
}

static bool is_harm(const char *verb, const char *object) {
    const char *base;
    WordClass class = world_class(object, &base);
    for (int k = 0; k < HARMS; k++)
        if (!strcmp(verb, world_harms[k].verb) && class == world_harms[k].target) return true;
    return false;
}

/* "to clean a cup use soap and water"; without its head it answers what was asked */
static bool read_advice(GoldReader *r) {
    int i = r->i;
    char verb[GOLD_WORD] = "", object[GOLD_WORD] = "";
    if (take(r, "to")) {
        const char *name;
        copy_word(verb, peek(r, 0));
        r->i++;
        skip_articles(r);
        table_form(peek(r, 0), object);
        r->i++;
        if (!strcmp(peek(r, 0), "of") && world_class(peek(r, 1), &name) == WORD_NAME) r->i += 2;
    }
    bool asked = !*verb && !strcmp(r->ask->relation, "use");
    if (asked) copy_word(verb, r->ask->subject);
    if (*verb && r->i < r->end && take(r, "use")) {
        int before = r->s->nsaid;
        if (*object) say(r, verb, "what", object, false, false);
        if (read_tools(r, verb, false)) {
            if (*object && is_harm(verb, object)) r->s->harm = true;
            return true;
        }
        r->s->nsaid = before;
    }
    r->i = i;
    return false;
}

/* A sentence of nothing but words that could be the answer: "Rome.", "A cup and a hat." */
static void read_bare(GoldReader *r) {
    static const struct {
        const char *relation;
        WordClass class;
    } wanted[] = {{"lives", WORD_PLACE}, {"is", WORD_TRADE},      {"likes", WORD_FOOD},
                  {"has", WORD_THING},   {"equals", WORD_NUMBER}, {"use", WORD_TOOL}};
    const Claim *ask = r->ask;
    WordClass class = WORD_OTHER;
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        if (!strcmp(ask->relation, wanted[k].relation)) class = wanted[k].class;
    if (!strncmp(ask->relation, "n:", 2)) class = WORD_NUMBER;
    if (*ask->relation && !*ask->subject) class = WORD_NAME;
    if (class == WORD_OTHER) return;
    if (class == WORD_TOOL) {
        read_tools(r, ask->subject, true);
        return;
    }
    int before = r->s->nsaid;
    while (r->i < r->end) {
        char word[GOLD_WORD];
        if (take(r, "and") || take(r, "in")) continue;
        if (!take_class(r, class, word) &&
            !(class == WORD_THING && take_class(r, WORD_ANIMAL, word)) &&
            !(class == WORD_NUMBER && r->i > 0 && take_noun(r, word) && (word[0] = 0, true))) {
            r->s->nsaid = before; /* more than bare words */
            return;
        }
        if (!*word) continue; /* the noun in "7 cups" */
        if (class == WORD_NAME)
            say(r, word, ask->relation, ask->object, false, true);
        else
            say(r, ask->subject, ask->relation, word, false, true);
    }
}

/* A whole sentence that refuses or says that the answer is not known. */
static bool read_phrase(GoldReader *r) {
    static const struct {
        const char *words, *courtesy;
        int unknown, refusal, length; /* words of the sentence, without those of courtesy */
    } phrases[] = {{"text does not say", "", UNKNOWN_TEXT, 0, 5},
                   {"i do not know", "", UNKNOWN_I, 0, 4},
                   {"cannot help", "sorry", 0, REFUSAL_PLAIN, 5},
                   {"can't help", "sorry", 0, REFUSAL_PLAIN, 5},
                   {"will not help", "sorry", 0, REFUSAL_PLAIN, 6}};
    char line[512] = "";
    size_t n = 0;
    for (int i = r->i; i < r->end && n + GOLD_WORD + 1 < sizeof line; i++)
        n +=
            (size_t)snprintf(line + n, sizeof line - n, "%s%s", i > r->i ? " " : "", r->s->word[i]);
    if (world_is_rude(line)) r->s->rude = true;
    for (size_t k = 0; k < sizeof phrases / sizeof *phrases; k++) {
        if (!strstr(line, phrases[k].words)) continue;
        const bool sorry = *phrases[k].courtesy && strstr(line, phrases[k].courtesy);
        const int refusal = phrases[k].refusal + sorry, unknown = phrases[k].unknown;
        if (unknown > (int)r->s->unknown) r->s->unknown = unknown;
        if (refusal > (int)r->s->refusal) r->s->refusal = refusal;
        const int idle = r->end - r->i - phrases[k].length - (sorry ? 4 : 0);
        if (idle > 0) r->s->idle += idle; /* "I am sorry, but" */
        return true;
    }
    return false;
}

/* "Ana lives in Rome and is a baker", "the home of Ana is Rome", "3 plus 4 is 7", advice */
static bool read_clause(GoldReader *r) {
    char name[GOLD_WORD], place[GOLD_WORD];
    int i = r->i;
    if (take(r, "the home of") && take_class(r, WORD_NAME, name) && take(r, "is") &&
        take_class(r, WORD_PLACE, place))
        return say(r, name, "lives", place, false, false), true;
    r->i = i;
    if (read_sum(r) || read_advice(r)) return true;
    if (!take_class(r, WORD_NAME, name) || !read_predicate(r, name)) {
        r->i = i;
        return false;
    }
    for (;;) {
        i = r->i;
        take(r, "and");
        if (!read_predicate(r, name)) break;
    }
    r->i = i;
    return true;
}

static bool is_one_of(const char *word, const char *const *list) {
    for (; *list; list++)
        if (!strcmp(word, *list)) return true;
    return false;
}

/* Clauses are looked for at every word; only a sentence without any may be a bare answer. */
static void read_sentence(GoldReader *r) {
    static const char *const denials[] = {"not",   "never", "nobody", "none", "false", "untrue",
                                          "wrong", "lie",   "doubt",  "nor",  NULL};
    static const char *const hedges[] = {"or", "maybe", "perhaps", "if", "might", "could", NULL};
    Speech *s = r->s;
    if (take(r, "yes"))
        s->yes = true;
    else if (take(r, "no"))
        s->no = true;
    if (read_phrase(r)) return;
    const int start = r->i, before = s->nsaid;
    int idle = 0;
    bool deny = false, hedge = false;
    while (r->i < r->end) {
        if (read_clause(r)) continue;
        deny ^= is_one_of(peek(r, 0), denials); /* twice denied is said */
        hedge |= is_one_of(peek(r, 0), hedges);
        idle++;
        r->i++;
    }
    if (s->nsaid == before) {
        r->i = start;
        read_bare(r);
        if (s->nsaid > before) idle = 0;
    }
    if (hedge) {
        s->nsaid = before;
        idle = r->end - start;
    }
    for (int k = before; deny && k < s->nsaid; k++) s->said[k].denied = !s->said[k].denied;
    s->idle += idle;
}

void gold_read_speech(Speech *s, const char *text, const Claim *ask) {
    memset(s, 0, sizeof *s);
    split(s, text);
    for (int k = 0; k < s->nsentences; k++) {
        bool question = k + 1 < s->nsentences && s->start[k + 1] == s->start[k + 2];
        GoldReader r = {s, ask, s->start[k], s->start[k + 1]};
        if (question)
            s->idle += r.end - r.i;
        else if (r.i < r.end)
            read_sentence(&r);
    }
}
