#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

char check_untouched;

static const char *folders[2];

static void fail(const char *file, int line, const char *what, const char *why)
{
    fprintf(stderr, "%s:%d: %s\n    %s\n", file, line, what, why);
    exit(1);
}

void check_that(bool holds, const char *what, const char *file, int line)
{
    if (!holds)
        fail(file, line, what, "does not hold");
}

void check_ok(mezzo_error_t *error, const char *what, const char *file, int line)
{
    if (error)
        fail(file, line, what, mezzo_error_message(error));
}

void check_contains(const char *text, const char *words, const char *file, int line)
{
    if (!text || !strstr(text, words)) {
        fprintf(stderr, "%s:%d: '%s' is not in:\n    %s\n", file, line, words, text ? text : "(NULL)");
        exit(1);
    }
}

void check_refused(mezzo_error_t *error, const char *what, mezzo_error_code_t code, const char *const *words,
                   const char *file, int line)
{
    if (!error)
        fail(file, line, what, "succeeds, and must not");
    const char *message = mezzo_error_message(error);
    if (mezzo_error_code(error) != code) {
        fprintf(stderr, "%s:%d: %s\n    expected %s, got %s: %s\n", file, line, what, mezzo_error_code_name(code),
                mezzo_error_code_name(mezzo_error_code(error)), message);
        exit(1);
    }
    for (; *words; words++)
        check_contains(message, *words, file, line);
    if (getenv("MEZZO_TEST_MESSAGES"))
        printf("%s\n", message);
    mezzo_error_free(error);
}

void count_release(void *user)
{
    ++*(int *)user;
}

static const char *join(const char *folder, const char *name)
{
    static char ring[8][1024];
    static unsigned next;
    char *path = ring[next++ % 8];
    snprintf(path, sizeof ring[0], "%s/%s", folder, name);
    return path;
}

const char *scratch(const char *name)
{
    return join(folders[0], name);
}

const char *fixture(const char *name)
{
    return join(folders[1], name);
}

void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        fail(__FILE__, __LINE__, path, "cannot be written");
}

unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(__FILE__, __LINE__, path, "cannot be opened");
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = malloc(*size + 1);
    if (!data || fread(data, 1, *size, file) != *size)
        fail(__FILE__, __LINE__, path, "cannot be read");
    fclose(file);
    return data;
}

bool file_exists(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file)
        fclose(file);
    return file != NULL;
}

size_t peak_memory(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * 1024;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s SCRATCH_FOLDER FIXTURE_FOLDER\n", argv[0]);
        return 2;
    }
    folders[0] = argv[1];
    folders[1] = argv[2];
    test();
    return 0;
}
