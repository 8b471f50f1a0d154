/* A tiny test kit: every check names its place and ends the test when it fails. */
#ifndef MEZZO_TEST_CHECK_H
#define MEZZO_TEST_CHECK_H

#include <mezzo/mezzo.h>

#include <stdbool.h>
#include <stddef.h>

/* The condition must hold. */
#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)

/* The call must succeed. */
#define OK(call) check_ok((call), #call, __FILE__, __LINE__)

/* The call must fail with this code, and the message must contain each of the words that follow. */
#define REFUSED(call, code, ...)                                                                                       \
    check_refused((call), #call, (code), (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)

/* What an output argument holds before a call that must fail: afterwards it must hold it still. */
#define UNTOUCHED ((void *)&check_untouched)

/* The text must contain the words. */
#define CONTAINS(text, words) check_contains((text), (words), __FILE__, __LINE__)

extern char check_untouched;

void check_that(bool holds, const char *what, const char *file, int line);
void check_ok(mezzo_error_t *error, const char *what, const char *file, int line);
void check_refused(mezzo_error_t *error, const char *what, mezzo_error_code_t code, const char *const *words,
                   const char *file, int line);
void check_contains(const char *text, const char *words, const char *file, int line);

/* Counts its calls: a release callback whose `user` is an int. */
void count_release(void *user);

/* The path of a file in the scratch folder (first argument of every test); a ring of a few strings. */
const char *scratch(const char *name);

/* The path of a committed test file (the folder is the second argument of every test). */
const char *fixture(const char *name);

void write_file(const char *path, const void *data, size_t size);

/* A whole file, to be freed. */
unsigned char *read_file(const char *path, size_t *size);

bool file_exists(const char *path);

/* Largest memory that the process has used so far, in bytes. */
size_t peak_memory(void);

/* Every test is one function; check.c has main(). */
void test(void);

#endif
