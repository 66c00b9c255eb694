/* check.h - what the C tests share: a check that goes on after a failure, and counts. */
#ifndef PL_TESTS_CHECK_H
#define PL_TESTS_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <plait.h>

static int failures; /* main returns failures != 0 */

/* Prints file, line and condition when it does not hold. Gives the condition back. */
#define CHECK(condition) check((condition), __FILE__, __LINE__, #condition)
static inline bool check(bool fine, const char *file, int line, const char *text)
{
    if (fine) return true;
    __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED); /* threads check too */
    fprintf(stderr, "%s:%d: %s\n", file, line, text);
    if (*pl_error_message()) fprintf(stderr, "    last message: %s\n", pl_error_message());
    return false;
}

/* The last message of this thread holds `part`. */
static inline bool says(const char *part) { return strstr(pl_error_message(), part) != NULL; }

static inline pl_counters counters(void)
{
    pl_counters c;
    pl_counters_get(&c);
    return c;
}

/* Runs a test and says so. */
#define RUN(test)                                        \
    do {                                                 \
        const int before = failures;                     \
        test();                                          \
        printf("%s %s\n", failures == before ? "ok  " : "FAIL", #test); \
    } while (0)

#endif
