/* sql.h: the few calls of SQLite that we need. Values are always bound, never part of the text. */
#ifndef SERVE_HTTP_SQL_H
#define SERVE_HTTP_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* Opens path with what every connection of ours has: WAL, synchronous=FULL (an answer that was
 * acknowledged survives a power cut), foreign keys, ten seconds of patience with other writers.
 * `create`: an absent file is made (mode 0600). ERR_IO, ERR_DATA (no database). */
int sql_open(sqlite3 **out, const char *path, bool create);

/* Prepares `text` and binds one value for each letter of `types`: i int64_t, d double, t const
 * char * (NULL is NULL). ERR_IO; programmers' errors end the job. */
int sql_prepare(sqlite3_stmt **out, sqlite3 *db, const char *text, const char *types, ...);

/* Steps: 1 a row, 0 the end, ERR_IO. */
int sql_step(sqlite3_stmt *s);

/* The same for statements without rows, in one call; the number of rows that changed. */
int64_t sql_run(sqlite3 *db, const char *text, const char *types, ...);

/* The first column of the first row; `fallback` where there is none or it is NULL. */
int64_t sql_whole(sqlite3 *db, int64_t fallback, const char *text, const char *types, ...);
char *sql_text(sqlite3 *db, const char *text, const char *types, ...); /* malloc'd, NULL if none */

/* A column as text, never NULL. */
const char *sql_column(sqlite3_stmt *s, int column);

/* Finalizes a statement where its scope is left. */
#define AUTOSTMT __attribute__((cleanup(sql_finalize_at))) sqlite3_stmt
void sql_finalize_at(sqlite3_stmt **s);

#endif
