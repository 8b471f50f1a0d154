/* Buffers, allocators, borrowed memory, arrays of halves. */
#include "check.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static void buffers(void)
{
    mezzo_buffer_t *buffer = NULL;
    unsigned char bytes[16], back[16];
    for (int i = 0; i < 16; i++)
        bytes[i] = (unsigned char)(i + 1);
    OK(mezzo_buffer_new(NULL, 100, &buffer));
    CHECK(mezzo_buffer_size(buffer) == 100);
    unsigned char *data = mezzo_buffer_data(buffer);
    CHECK((uintptr_t)data % 64 == 0);
    for (int i = 0; i < 100; i++)
        CHECK(data[i] == 0);
    OK(mezzo_buffer_copy_in(buffer, 84, bytes, 16));
    OK(mezzo_buffer_copy_out(buffer, 84, back, 16));
    CHECK(memcmp(bytes, back, 16) == 0 && data[99] == 16);
    /* The memory may be the buffer's own. */
    OK(mezzo_buffer_copy_in(buffer, 80, data + 84, 16));
    CHECK(data[80] == 1 && data[95] == 16);
    OK(mezzo_buffer_copy_out(buffer, 80, data + 82, 16));
    CHECK(data[82] == 1 && data[97] == 16);
    OK(mezzo_buffer_copy_in(buffer, 100, NULL, 0));

    memset(back, 7, 16);
    REFUSED(mezzo_buffer_copy_in(buffer, 85, bytes, 16), MEZZO_ERROR_SIZE_MISMATCH, "16 bytes", "offset 85", "100 bytes");
    REFUSED(mezzo_buffer_copy_out(buffer, 101, back, 0), MEZZO_ERROR_SIZE_MISMATCH, "101", "100 bytes");
    REFUSED(mezzo_buffer_copy_out(buffer, SIZE_MAX, back, 2), MEZZO_ERROR_SIZE_MISMATCH, "100 bytes");
    REFUSED(mezzo_buffer_copy_in(buffer, 0, NULL, 4), MEZZO_ERROR_INVALID_ARGUMENT, "'data'", "NULL");
    REFUSED(mezzo_buffer_copy_out(buffer, 0, NULL, 4), MEZZO_ERROR_INVALID_ARGUMENT, "'data'", "NULL");
    CHECK(back[0] == 7);

    mezzo_buffer_t *same = mezzo_buffer_retain(buffer);
    CHECK(same == buffer);
    mezzo_buffer_free(buffer);
    CHECK(mezzo_buffer_size(same) == 100);
    mezzo_buffer_free(same);

    buffer = UNTOUCHED;
    REFUSED(mezzo_buffer_new(NULL, SIZE_MAX, &buffer), MEZZO_ERROR_OUT_OF_MEMORY, "bytes");
    REFUSED(mezzo_buffer_new(NULL, SIZE_MAX / 4, &buffer), MEZZO_ERROR_OUT_OF_MEMORY, "bytes");
    CHECK(buffer == UNTOUCHED);
    OK(mezzo_buffer_new(NULL, 0, &buffer));
    CHECK(mezzo_buffer_size(buffer) == 0);
    mezzo_buffer_free(buffer);
    /* Freed, then NULL: what a careful caller leaves behind. */
    buffer = NULL;
    REFUSED(mezzo_buffer_copy_out(buffer, 0, back, 1), MEZZO_ERROR_INVALID_ARGUMENT, "'buffer'", "NULL");
}

static void borrowed(void)
{
    float memory[4] = {1, 2, 3, 4};
    int released = 0;
    mezzo_buffer_t *buffer = UNTOUCHED;
    REFUSED(mezzo_buffer_from_memory(NULL, 4, count_release, &released, &buffer), MEZZO_ERROR_INVALID_ARGUMENT,
            "'data'", "NULL");
    REFUSED(mezzo_buffer_from_memory(memory, SIZE_MAX, count_release, &released, &buffer),
            MEZZO_ERROR_INVALID_ARGUMENT, "'data'", "no memory is that large");
    CHECK(released == 0 && buffer == UNTOUCHED);
    OK(mezzo_buffer_from_memory(memory, sizeof memory, count_release, &released, &buffer));
    CHECK(mezzo_buffer_data(buffer) == memory);

    const int64_t dims[] = {2, 2};
    mezzo_value_t *value = NULL;
    OK(mezzo_value_from_buffer(buffer, 0, MEZZO_DTYPE_FP32, dims, 2, &value));
    mezzo_buffer_free(buffer);
    CHECK(released == 0 && mezzo_value_data(value) == memory);
    mezzo_value_free(value);
    CHECK(released == 1);

    buffer = NULL;
    OK(mezzo_buffer_from_memory(NULL, 0, count_release, &released, &buffer));
    mezzo_buffer_free(buffer);
    CHECK(released == 2);
}

typedef struct pool {
    size_t live, calls;
    int released;
    bool full, crooked;
} pool;

static void *pool_allocate(void *user, size_t size, size_t alignment)
{
    pool *p = user;
    p->calls++;
    if (p->full)
        return NULL;
    p->live++;
    unsigned char *memory = aligned_alloc(alignment, (size + 2 * alignment - 1) / alignment * alignment);
    memset(memory, 0xAA, size);
    return p->crooked ? memory + 1 : memory;
}

static void pool_deallocate(void *user, void *pointer, size_t size, size_t alignment)
{
    pool *p = user;
    (void)size;
    (void)alignment;
    p->live--;
    free(p->crooked ? (unsigned char *)pointer - 1 : pointer);
}

static void pool_release(void *user)
{
    ((pool *)user)->released++;
}

static void allocators(void)
{
    pool p = {0};
    mezzo_env_options_t *options = mezzo_env_options_new();
    mezzo_env_t *env = NULL;
    REFUSED(mezzo_env_options_set_allocator(options, pool_allocate, NULL, &p, pool_release),
            MEZZO_ERROR_INVALID_ARGUMENT, "'deallocate'", "NULL", "both");
    CHECK(p.released == 0);
    OK(mezzo_env_options_set_allocator(options, pool_allocate, pool_deallocate, &p, pool_release));
    OK(mezzo_env_new(options, &env));
    mezzo_env_options_free(options);

    mezzo_buffer_t *buffer = NULL;
    OK(mezzo_buffer_new(env, 1000, &buffer));
    CHECK(p.live == 1 && ((unsigned char *)mezzo_buffer_data(buffer))[999] == 0);
    const int64_t dims[] = {10};
    mezzo_value_t *value = NULL;
    OK(mezzo_value_new_tensor(env, MEZZO_DTYPE_FP16, dims, 1, &value));
    CHECK(p.live == 2);

    p.full = true;
    mezzo_buffer_t *none = UNTOUCHED;
    REFUSED(mezzo_buffer_new(env, 1000, &none), MEZZO_ERROR_OUT_OF_MEMORY, "1000 bytes");
    CHECK(none == UNTOUCHED);
    p.full = false;
    p.crooked = true;
    REFUSED(mezzo_buffer_new(env, 1000, &none), MEZZO_ERROR_INVALID_ARGUMENT, "aligned", "64");
    p.crooked = false;
    CHECK(p.live == 2);

    mezzo_env_free(env);
    mezzo_value_free(value);
    CHECK(p.released == 0);
    mezzo_buffer_free(buffer);
    CHECK(p.live == 0 && p.released == 1);
}

static void halves(void)
{
    enum { ALL = 65536 };
    uint16_t *half = malloc(ALL * sizeof *half), *back = malloc(ALL * sizeof *back);
    float *wide = malloc(ALL * sizeof *wide);
    CHECK(half && back && wide);
    for (int i = 0; i < ALL; i++)
        half[i] = (uint16_t)i;

    OK(mezzo_convert_f16_to_f32(half, ALL, wide));
    CHECK(wide[0x3c00] == 1 && wide[0xc000] == -2 && wide[0x7bff] == 65504 && isinf(wide[0x7c00]));
    CHECK(wide[1] == ldexpf(1, -24) && isnan(wide[0x7e00]) && signbit(wide[0x8000]));
    OK(mezzo_convert_f32_to_f16(wide, ALL, back));
    for (int i = 0; i < ALL; i++)
        CHECK(back[i] == half[i] || (isnan(wide[i]) && (back[i] & 0x7fff) > 0x7c00 && (back[i] ^ half[i]) < 0x8000));

    OK(mezzo_convert_bf16_to_f32(half, ALL, wide));
    CHECK(wide[0x3f80] == 1 && wide[0xc000] == -2 && isinf(wide[0x7f80]));
    OK(mezzo_convert_f32_to_bf16(wide, ALL, back));
    for (int i = 0; i < ALL; i++)
        CHECK(back[i] == half[i] || (isnan(wide[i]) && (back[i] & 0x7fff) > 0x7f80));

    const float edges[] = {65519.996f, 65520, 1.00048828125f, 1.0004884f, 2.9802322e-8f, 2.9802326e-8f};
    const uint16_t rounded[] = {0x7bff, 0x7c00, 0x3c00, 0x3c01, 0, 1};
    OK(mezzo_convert_f32_to_f16(edges, 6, back));
    CHECK(memcmp(back, rounded, sizeof rounded) == 0);

    back[0] = 77;
    REFUSED(mezzo_convert_f32_to_f16(wide, 4, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'destination'", "NULL");
    REFUSED(mezzo_convert_f32_to_f16(NULL, 4, back), MEZZO_ERROR_INVALID_ARGUMENT, "'source'", "NULL");
    REFUSED(mezzo_convert_f32_to_f16(wide, 4, (uint16_t *)(wide + 2)), MEZZO_ERROR_INVALID_ARGUMENT, "'destination'",
            "overlaps");
    REFUSED(mezzo_convert_f16_to_f32(half, 8, (float *)half), MEZZO_ERROR_INVALID_ARGUMENT, "overlaps");
    REFUSED(mezzo_convert_f32_to_f16(wide, SIZE_MAX / 2, back), MEZZO_ERROR_INVALID_ARGUMENT, "'source'", "elements");
    REFUSED(mezzo_convert_f32_to_bf16((float *)((char *)wide + 1), 2, back), MEZZO_ERROR_INVALID_ARGUMENT, "'source'",
            "aligned to 4");
    REFUSED(mezzo_convert_bf16_to_f32((uint16_t *)((char *)half + 1), 2, wide), MEZZO_ERROR_INVALID_ARGUMENT,
            "'source'", "aligned to 2");
    CHECK(back[0] == 77);
    /* Next to each other is not overlapping. */
    OK(mezzo_convert_f32_to_f16(wide, 2, (uint16_t *)(wide + 2)));
    free(half);
    free(back);
    free(wide);
}

/* A caller that flushes subnormals to zero, as games do, gets the same results and its mode back. */
static void floating_point_mode(void)
{
#if defined(__x86_64__)
    const unsigned standard = _mm_getcsr();
    const unsigned flush = standard | 0x8040;
    const int64_t dims[] = {1};
    const double tiny = 3e-40;
    float narrow = 0;
    mezzo_value_t *value = NULL, *converted = NULL;
    OK(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP64, dims, 1, &tiny, sizeof tiny, &value));
    _mm_setcsr(flush);
    const unsigned before = _mm_getcsr(); /* valgrind does not keep these bits */
    mezzo_error_t *error = mezzo_value_to_float(value, MEZZO_DTYPE_FP32, &converted);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(standard);
    OK(error);
    CHECK((after & 0x8040) == (before & 0x8040));
    OK(mezzo_value_copy_out(converted, &narrow, sizeof narrow));
    CHECK(narrow == 3e-40f && narrow > 0);
    mezzo_value_free(converted);
    mezzo_value_free(value);
#endif
}

void test(void)
{
    buffers();
    borrowed();
    allocators();
    halves();
    floating_point_mode();
}
