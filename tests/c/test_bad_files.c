/* Files that are damaged, hostile, missing or no files at all. Nothing may crash, hang or take memory that the file does
 * not justify. */
#include "check.h"
#include "onnx_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEGABYTE ((size_t)1 << 20)

/* Loads bytes that may be anything; what loads must also be describable and saveable. */
static bool loads(const unsigned char *data, size_t size)
{
    mezzo_model_t *model = UNTOUCHED;
    mezzo_error_t *error = mezzo_model_load_memory(NULL, data, size, NULL, NULL, NULL, &model);
    if (error) {
        CHECK(model == UNTOUCHED);
        CHECK(mezzo_error_code(error) != MEZZO_ERROR_INTERNAL);
        CHECK(strlen(mezzo_error_message(error)) > 10);
        mezzo_error_free(error);
        return false;
    }
    for (size_t i = 0; i < mezzo_model_input_count(model); i++)
        CHECK(mezzo_io_text(mezzo_model_input(model, i)) != NULL);
    mezzo_buffer_t *buffer = NULL;
    mezzo_error_free(mezzo_model_save_memory(model, &buffer));
    mezzo_buffer_free(buffer);
    mezzo_model_free(model);
    return true;
}

static void damaged(const unsigned char *whole, size_t size, size_t step)
{
    unsigned char *copy = malloc(size);
    CHECK(loads(whole, size));
    for (size_t cut = 0; cut < size; cut += step) {
        memcpy(copy, whole, cut); /* a block of exactly that size: valgrind sees a read behind its end */
        loads(copy, cut);
    }
    CHECK(!loads(copy, 0) && !loads(whole, size / 2));
    memcpy(copy, whole, size);
    for (size_t at = 0; at < size; at += step) {
        copy[at] ^= (unsigned char)(1u << at % 8);
        loads(copy, size);
        copy[at] = whole[at];
    }
    free(copy);
}

static void damaged_models(void)
{
    pb linear = linear_model();
    damaged(linear.data, linear.size, 1);
    pb_free(&linear);
    size_t size;
    unsigned char *digits = read_file(fixture("digits/digits.onnx"), &size);
    damaged(digits, size, size / 150 + 1);
    free(digits);
}

static void refused_model(pb *graph, mezzo_error_code_t code, const char *first, const char *second)
{
    mezzo_model_t *model = UNTOUCHED;
    pb bytes = model_of(graph);
    REFUSED(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model), code, first, second);
    CHECK(model == UNTOUCHED);
    pb_free(&bytes);
}

/* Small files that speak of large things. */
static void hostile_sizes(void)
{
    const size_t before = peak_memory();
    mezzo_model_t *model = UNTOUCHED;

    /* A length field of 4 GB in a file of 1 KB. */
    pb bytes = {0};
    pb_int(&bytes, 1, 8);
    pb_varint(&bytes, 7 << 3 | 2);
    pb_varint(&bytes, UINT64_C(4294967296));
    while (bytes.size < 1024)
        pb_raw(&bytes, "", 1);
    REFUSED(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model), MEZZO_ERROR_INVALID_FILE,
            "damaged");
    write_file(scratch("four_gigabytes.onnx"), bytes.data, bytes.size);
    REFUSED(mezzo_model_load_file(NULL, scratch("four_gigabytes.onnx"), NULL, &model), MEZZO_ERROR_INVALID_FILE,
            "four_gigabytes.onnx");
    pb_free(&bytes);

    /* A tensor of 2^62 elements without bytes. */
    const int64_t huge[] = {INT64_C(1) << 31, INT64_C(1) << 31};
    const float one = 1;
    pb graph = {0};
    graph_constant(&graph, "huge", huge, 2, &one, 1);
    refused_model(&graph, MEZZO_ERROR_INVALID_MODEL, "'huge'", "too many elements");

    /* A tensor that overflows every size. */
    const int64_t overflow[] = {INT64_MAX, INT64_MAX};
    graph_constant(&graph, "overflow", overflow, 2, &one, 1);
    refused_model(&graph, MEZZO_ERROR_INVALID_MODEL, "'overflow'", "");

    /* Two thousand levels of nesting are refused, not followed. */
    pb nested = {0};
    for (int i = 0; i < 2000; i++) {
        pb attribute = {0}, node = {0}, outer = {0};
        pb_string(&attribute, 1, "body");
        pb_int(&attribute, 20, 5);
        pb_message(&attribute, 6, &nested);
        pb_string(&node, 4, "Loop");
        pb_string(&node, 2, "o");
        pb_message(&node, 5, &attribute);
        pb_message(&outer, 1, &node);
        nested = outer;
    }
    bytes = model_of(&nested);
    CHECK(!loads(bytes.data, bytes.size));
    pb_free(&bytes);

    CHECK(model == UNTOUCHED);
    CHECK(peak_memory() - before < 200 * MEGABYTE);
}

static void refused_external(const char *location, const char *offset, const char *length, mezzo_error_code_t code,
                             const char *words)
{
    mezzo_model_t *model = UNTOUCHED;
    pb bytes = linear_model_external(location, offset, length);
    const char *path = scratch("bad_external.onnx");
    write_file(path, bytes.data, bytes.size);
    REFUSED(mezzo_model_load_file(NULL, path, NULL, &model), code, "'W'", words, "bad_external.onnx");
    CHECK(model == UNTOUCHED);
    pb_free(&bytes);
}

static void external_data(void)
{
    const size_t before = peak_memory();
    write_file(scratch("short.bin"), "1234567890", 10);
    refused_external("missing.bin", NULL, NULL, MEZZO_ERROR_NOT_FOUND, "missing.bin");
    refused_external("../secret.bin", NULL, NULL, MEZZO_ERROR_INVALID_MODEL, "../secret.bin");
    refused_external("a/../../secret.bin", NULL, NULL, MEZZO_ERROR_INVALID_MODEL, "secret.bin");
    refused_external("/etc/passwd", NULL, NULL, MEZZO_ERROR_INVALID_MODEL, "/etc/passwd");
    refused_external("short.bin", NULL, NULL, MEZZO_ERROR_INVALID_FILE, "short.bin");
    refused_external("short.bin", "0", "4294967296", MEZZO_ERROR_INVALID_MODEL, "4294967296");
    refused_external("short.bin", "18446744073709551615", "24", MEZZO_ERROR_INVALID_FILE, "short.bin");
    refused_external("short.bin", "eight", NULL, MEZZO_ERROR_INVALID_MODEL, "eight");
    refused_external(".", NULL, NULL, MEZZO_ERROR_INVALID_ARGUMENT, "directory");
    CHECK(peak_memory() - before < 200 * MEGABYTE);
}

static void not_model_files(void)
{
    mezzo_model_t *model = UNTOUCHED;
    mezzo_engine_t *engine = UNTOUCHED;
    REFUSED(mezzo_model_load_file(NULL, scratch("missing.onnx"), NULL, &model), MEZZO_ERROR_NOT_FOUND, "missing.onnx");
    REFUSED(mezzo_model_load_file(NULL, scratch("."), NULL, &model), MEZZO_ERROR_INVALID_ARGUMENT, "directory");
    REFUSED(mezzo_model_load_file(NULL, "/dev/null", NULL, &model), MEZZO_ERROR_INVALID_ARGUMENT, "/dev/null",
            "regular file");
    write_file(scratch("empty.onnx"), "", 0);
    REFUSED(mezzo_model_load_file(NULL, scratch("empty.onnx"), NULL, &model), MEZZO_ERROR_INVALID_FILE, "empty.onnx");
    write_file(scratch("text.onnx"), "This is no model at all.\n", 25);
    REFUSED(mezzo_model_load_file(NULL, scratch("text.onnx"), NULL, &model), MEZZO_ERROR_INVALID_FILE, "text.onnx");
    REFUSED(mezzo_model_load_memory(NULL, NULL, 10, NULL, NULL, NULL, &model), MEZZO_ERROR_INVALID_ARGUMENT, "'data'",
            "NULL");

    mezzo_error_t *error = mezzo_model_load_file(NULL, scratch("missing.onnx"), NULL, &model);
    CHECK(mezzo_error_domain(error) == MEZZO_DOMAIN_IO && mezzo_error_native_code(error) == 2);
    mezzo_error_free(error);

    REFUSED(mezzo_engine_load_file(NULL, scratch("missing.engine"), NULL, &engine), MEZZO_ERROR_NOT_FOUND,
            "missing.engine");
    REFUSED(mezzo_engine_load_file(NULL, scratch("."), NULL, &engine), MEZZO_ERROR_INVALID_ARGUMENT, "directory");
    REFUSED(mezzo_engine_load_file(NULL, scratch("text.onnx"), NULL, &engine), MEZZO_ERROR_INVALID_FILE, "text.onnx");
    REFUSED(mezzo_engine_load_memory(NULL, "MEZZOENG", 8, NULL, NULL, NULL, &engine), MEZZO_ERROR_INVALID_FILE,
            "truncated");
    int released = 0;
    REFUSED(mezzo_engine_load_memory(NULL, "MEZZOENG", 8, count_release, &released, NULL, &engine),
            MEZZO_ERROR_INVALID_FILE, "truncated");
    CHECK(released == 0 && model == UNTOUCHED && engine == UNTOUCHED);
}

void test(void)
{
    damaged_models();
    hostile_sizes();
    external_data();
    not_model_files();
}
