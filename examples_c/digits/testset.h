/* The held-out digits of tests/data/digits/digits_test.bin (its README.md gives the format). */
#ifndef DIGITS_TESTSET_H
#define DIGITS_TESTSET_H

#include <stddef.h>
#include <stdint.h>

typedef struct testset {
    size_t count, height, width;
    uint8_t *pixels; /* count * height * width, 0 (paper) to 16 (ink) */
    uint8_t *labels; /* count, 0 to 9 */
} testset;

/* Returns 0 and fills `set`, or prints what is wrong to stderr and returns -1. Free with testset_free. */
int testset_read(const char *path, testset *set);
void testset_free(testset *set);

/* Prints the given images side by side, one row of text per row of pixels. */
void testset_print(const testset *set, const size_t *images, size_t count);

#endif
