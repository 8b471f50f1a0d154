#include "testset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t u32_le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int testset_read(const char *path, testset *set)
{
    memset(set, 0, sizeof *set);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return -1;
    }
    uint8_t head[16];
    int ok = fread(head, 1, sizeof head, file) == sizeof head && memcmp(head, "MZD1", 4) == 0;
    if (ok) {
        set->count = u32_le(head + 4);
        set->height = u32_le(head + 8);
        set->width = u32_le(head + 12);
        ok = set->count > 0 && set->count <= 1000000 && set->height <= 64 && set->width <= 64;
    }
    if (ok) {
        size_t pixels = set->count * set->height * set->width;
        set->pixels = malloc(pixels + 1);
        set->labels = malloc(set->count);
        ok = set->pixels && set->labels && fread(set->pixels, 1, pixels, file) == pixels &&
             fread(set->labels, 1, set->count, file) == set->count;
    }
    fclose(file);
    if (!ok) {
        fprintf(stderr, "%s: not a test set of this example (see tests/data/digits/README.md)\n", path);
        testset_free(set);
        return -1;
    }
    return 0;
}

void testset_free(testset *set)
{
    free(set->pixels);
    free(set->labels);
    memset(set, 0, sizeof *set);
}

void testset_print(const testset *set, const size_t *images, size_t count)
{
    static const char ink[] = " .:-=+*#%@";
    for (size_t y = 0; y < set->height; y++) {
        for (size_t i = 0; i < count; i++) {
            const uint8_t *row = set->pixels + (images[i] * set->height + y) * set->width;
            fputs("  ", stdout);
            for (size_t x = 0; x < set->width; x++) {
                char c = ink[row[x] * 9u / 16u % 10u];
                putchar(c); /* twice: characters are about twice as high as wide */
                putchar(c);
            }
        }
        putchar('\n');
    }
}
