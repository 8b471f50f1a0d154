/* Values of every kind. */
#include "check.h"

#include <stdint.h>
#include <string.h>

static void tensors(void)
{
    const int64_t dims[] = {2, 3};
    const float numbers[6] = {1, 2, 3, 4, 5, 65520};
    float back[6] = {0};
    mezzo_value_t *value = NULL, *half = NULL, *clone = NULL, *none = UNTOUCHED;
    OK(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP32, dims, 2, numbers, sizeof numbers, &value));
    CHECK(mezzo_value_kind(value) == MEZZO_KIND_TENSOR && mezzo_value_dtype(value) == MEZZO_DTYPE_FP32);
    CHECK(mezzo_value_rank(value) == 2 && mezzo_value_dims(value)[0] == 2 && mezzo_value_dims(value)[1] == 3);
    CHECK(mezzo_value_count(value) == 6 && mezzo_value_byte_size(value) == 24);
    CHECK(((float *)mezzo_value_data(value))[4] == 5);

    OK(mezzo_value_to_float(value, MEZZO_DTYPE_FP16, &half));
    CHECK(mezzo_value_dtype(half) == MEZZO_DTYPE_FP16 && mezzo_value_byte_size(half) == 12);
    CHECK(((uint16_t *)mezzo_value_data(half))[0] == 0x3c00 && ((uint16_t *)mezzo_value_data(half))[5] == 0x7c00);
    REFUSED(mezzo_value_to_float(value, MEZZO_DTYPE_INT8, &none), MEZZO_ERROR_TYPE_MISMATCH, "fp32", "int8");
    REFUSED(mezzo_value_to_float(value, 99, &none), MEZZO_ERROR_INVALID_ARGUMENT, "'dtype'", "99", "MEZZO_DTYPE_");

    /* A clone shares the elements, the conversion above does not. */
    OK(mezzo_value_clone(value, &clone));
    CHECK(mezzo_value_data(clone) == mezzo_value_data(value));
    const float others[6] = {9, 8, 7, 6, 5, 4};
    OK(mezzo_value_copy_in(clone, others, sizeof others));
    OK(mezzo_value_copy_out(value, back, sizeof back));
    CHECK(memcmp(back, others, sizeof back) == 0);

    back[0] = -1;
    REFUSED(mezzo_value_copy_in(value, numbers, 20), MEZZO_ERROR_SIZE_MISMATCH, "fp32 [2, 3]", "24 bytes", "20");
    REFUSED(mezzo_value_copy_in(value, numbers, 28), MEZZO_ERROR_SIZE_MISMATCH, "24 bytes", "28");
    REFUSED(mezzo_value_copy_out(value, back, 20), MEZZO_ERROR_SIZE_MISMATCH, "24 bytes", "20");
    REFUSED(mezzo_value_copy_in(value, NULL, 24), MEZZO_ERROR_INVALID_ARGUMENT, "'data'", "NULL");
    CHECK(back[0] == -1);
    const char *text = UNTOUCHED;
    size_t size = 5;
    REFUSED(mezzo_value_string(value, 0, &text, &size), MEZZO_ERROR_TYPE_MISMATCH, "a tensor", "string tensor");
    REFUSED(mezzo_value_member(value, 0, &none), MEZZO_ERROR_TYPE_MISMATCH, "a tensor", "members");
    CHECK(text == UNTOUCHED && size == 5 && none == UNTOUCHED);

    mezzo_buffer_t *buffer = NULL;
    size_t offset = 1;
    OK(mezzo_value_buffer(value, &buffer, &offset));
    CHECK(mezzo_buffer_data(buffer) == mezzo_value_data(clone) && offset == 0 && mezzo_buffer_size(buffer) == 24);
    OK(mezzo_value_from_buffer(buffer, 8, MEZZO_DTYPE_FP32, dims + 1, 1, &none));
    CHECK(((float *)mezzo_value_data(none))[0] == 7);
    mezzo_value_free(none);
    none = UNTOUCHED;
    REFUSED(mezzo_value_from_buffer(buffer, 16, MEZZO_DTYPE_FP32, dims + 1, 1, &none), MEZZO_ERROR_SIZE_MISMATCH,
            "12 bytes", "offset 16", "24");
    REFUSED(mezzo_value_from_buffer(buffer, 2, MEZZO_DTYPE_FP32, dims + 1, 1, &none), MEZZO_ERROR_INVALID_ARGUMENT,
            "offset 2", "multiple of 4");
    CHECK(none == UNTOUCHED);
    mezzo_buffer_free(buffer);
    mezzo_value_free(clone);
    mezzo_value_free(half);
    mezzo_value_free(value);
    value = NULL;
    REFUSED(mezzo_value_clone(value, &none), MEZZO_ERROR_INVALID_ARGUMENT, "'value'", "NULL");
}

static void shapes(void)
{
    const int64_t negative[] = {2, -1}, huge[] = {INT64_MAX, 4}, empty[] = {0, 5};
    mezzo_value_t *value = UNTOUCHED;
    REFUSED(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP32, negative, 2, &value), MEZZO_ERROR_INVALID_ARGUMENT,
            "'dims'", "-1", "place 1");
    REFUSED(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP32, huge, 2, &value), MEZZO_ERROR_INVALID_ARGUMENT, "fp32");
    REFUSED(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP32, NULL, 2, &value), MEZZO_ERROR_INVALID_ARGUMENT, "'dims'",
            "NULL");
    REFUSED(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP32, negative, 1000, &value), MEZZO_ERROR_INVALID_ARGUMENT,
            "'rank'", "1000");
    REFUSED(mezzo_value_new_tensor(NULL, 0, empty, 2, &value), MEZZO_ERROR_INVALID_ARGUMENT, "'dtype'", "0");
    REFUSED(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_STRING, empty, 2, &value), MEZZO_ERROR_INVALID_ARGUMENT, "string");
    CHECK(value == UNTOUCHED);
    OK(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_INT64, empty, 2, &value));
    CHECK(mezzo_value_count(value) == 0 && mezzo_value_byte_size(value) == 0 && mezzo_value_dims(value)[1] == 5);
    mezzo_value_free(value);
    OK(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP64, NULL, 0, &value));
    CHECK(mezzo_value_count(value) == 1 && mezzo_value_rank(value) == 0 && mezzo_value_dims(value) != NULL);
    mezzo_value_free(value);
    const int64_t five[] = {5};
    OK(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_INT4, five, 1, &value));
    CHECK(mezzo_value_byte_size(value) == 3);
    mezzo_value_free(value);
}

static void borrowed(void)
{
    const int64_t dims[] = {3};
    float memory[4] = {1, 2, 3, 4};
    int released = 0;
    mezzo_value_t *value = UNTOUCHED, *clone = NULL;
    REFUSED(mezzo_value_from_memory(MEZZO_DTYPE_FP32, dims, 1, memory, 16, count_release, &released, &value),
            MEZZO_ERROR_SIZE_MISMATCH, "fp32 [3]", "12 bytes", "16");
    REFUSED(mezzo_value_from_memory(MEZZO_DTYPE_FP32, dims, 1, NULL, 12, count_release, &released, &value),
            MEZZO_ERROR_INVALID_ARGUMENT, "'data'", "NULL");
    REFUSED(mezzo_value_from_memory(MEZZO_DTYPE_FP32, dims, 1, (char *)memory + 1, 12, count_release, &released, &value),
            MEZZO_ERROR_INVALID_ARGUMENT, "multiple of 4");
    REFUSED(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP16, dims, 1, memory, 12, &value), MEZZO_ERROR_SIZE_MISMATCH,
            "fp16 [3]", "6 bytes", "12");
    CHECK(released == 0 && value == UNTOUCHED);
    OK(mezzo_value_from_memory(MEZZO_DTYPE_FP32, dims, 1, memory, 12, count_release, &released, &value));
    CHECK(mezzo_value_data(value) == memory);
    OK(mezzo_value_clone(value, &clone));
    mezzo_value_free(value);
    CHECK(released == 0);
    mezzo_value_free(clone);
    CHECK(released == 1);
    OK(mezzo_value_from_memory(MEZZO_DTYPE_FP32, dims, 1, memory, 12, NULL, NULL, &value));
    mezzo_value_free(value);
}

static void strings(void)
{
    const int64_t dims[] = {2, 1};
    const char *words[] = {"half", "z\0ro"};
    const size_t lengths[] = {4, 4};
    const char *text = UNTOUCHED;
    size_t size = 0;
    mezzo_value_t *value = UNTOUCHED;
    OK(mezzo_value_new_strings(dims, 2, words, lengths, 2, &value));
    CHECK(mezzo_value_kind(value) == MEZZO_KIND_TENSOR && mezzo_value_dtype(value) == MEZZO_DTYPE_STRING);
    CHECK(mezzo_value_count(value) == 2 && mezzo_value_dims(value)[0] == 2 && !mezzo_value_data(value));
    OK(mezzo_value_string(value, 1, &text, &size));
    CHECK(size == 4 && memcmp(text, "z\0ro", 4) == 0);
    REFUSED(mezzo_value_string(value, 2, &text, &size), MEZZO_ERROR_INVALID_ARGUMENT, "'index'", "2", "2 strings");
    REFUSED(mezzo_value_copy_in(value, words, 4), MEZZO_ERROR_TYPE_MISMATCH, "string tensor");
    mezzo_value_free(value);
    OK(mezzo_value_new_strings(dims, 1, words, NULL, 2, &value));
    OK(mezzo_value_string(value, 1, &text, &size));
    CHECK(size == 1);
    mezzo_value_free(value);
    value = UNTOUCHED;
    words[1] = NULL;
    REFUSED(mezzo_value_new_strings(dims, 1, words, NULL, 2, &value), MEZZO_ERROR_INVALID_ARGUMENT, "strings[1]", "NULL");
    REFUSED(mezzo_value_new_strings(dims, 1, words, NULL, 3, &value), MEZZO_ERROR_SIZE_MISMATCH, "2 strings", "3");
    CHECK(value == UNTOUCHED);
}

static void containers(void)
{
    mezzo_value_t *scalar = NULL, *sequence = NULL, *optional = NULL, *member = UNTOUCHED;
    const float one = 1;
    OK(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP32, NULL, 0, &one, sizeof one, &scalar));
    const mezzo_value_t *members[] = {scalar, scalar, NULL};
    OK(mezzo_value_new_sequence(members, 2, &sequence));
    CHECK(mezzo_value_kind(sequence) == MEZZO_KIND_SEQUENCE && mezzo_value_count(sequence) == 2);
    CHECK(mezzo_value_dtype(sequence) == MEZZO_DTYPE_NONE && !mezzo_value_dims(sequence));
    OK(mezzo_value_member(sequence, 1, &member));
    CHECK(mezzo_value_data(member) == mezzo_value_data(scalar));
    mezzo_value_free(member);
    member = UNTOUCHED;
    REFUSED(mezzo_value_member(sequence, 2, &member), MEZZO_ERROR_INVALID_ARGUMENT, "'index'", "2 members");
    REFUSED(mezzo_value_new_sequence(members, 3, &member), MEZZO_ERROR_INVALID_ARGUMENT, "members[2]", "NULL");
    REFUSED(mezzo_value_to_float(sequence, MEZZO_DTYPE_FP16, &member), MEZZO_ERROR_TYPE_MISMATCH, "a sequence");
    mezzo_buffer_t *buffer = UNTOUCHED;
    REFUSED(mezzo_value_buffer(sequence, &buffer, NULL), MEZZO_ERROR_TYPE_MISMATCH, "a sequence");
    CHECK(member == UNTOUCHED && buffer == UNTOUCHED);
    mezzo_value_free(sequence);

    OK(mezzo_value_new_optional(scalar, &optional));
    CHECK(mezzo_value_kind(optional) == MEZZO_KIND_OPTIONAL && mezzo_value_count(optional) == 1);
    OK(mezzo_value_member(optional, 0, &member));
    CHECK(mezzo_value_count(member) == 1);
    mezzo_value_free(member);
    mezzo_value_free(optional);
    OK(mezzo_value_new_optional(NULL, &optional));
    CHECK(mezzo_value_count(optional) == 0);
    member = UNTOUCHED;
    REFUSED(mezzo_value_member(optional, 0, &member), MEZZO_ERROR_INVALID_ARGUMENT, "0 members");
    CHECK(member == UNTOUCHED);
    mezzo_value_free(optional);
    mezzo_value_free(scalar);
}

void test(void)
{
    tensors();
    shapes();
    borrowed();
    strings();
    containers();
}
