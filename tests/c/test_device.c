/* Devices, streams, events and device buffers where there is no GPU: each call gives its error, names what is missing and
 * crashes nothing. What they do on a GPU is the task of tests/gpu. Context pools and DLPack, which need none. */
#include "check.h"
#include "onnx_writer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NULLS(function, argument, ...)                                                                                 \
    REFUSED(function(__VA_ARGS__), MEZZO_ERROR_INVALID_ARGUMENT, "'" argument "'", #function, "NULL")

static void null_arguments(void)
{
    NULLS(mezzo_device_count, "count", NULL);
    NULLS(mezzo_device_driver_version, "version", NULL);
    NULLS(mezzo_device_get, "device", 0, NULL);
    uint64_t bytes = 7;
    int32_t low = 7, high = 7;
    NULLS(mezzo_device_free_memory, "device", NULL, &bytes);
    NULLS(mezzo_device_stream_priorities, "device", NULL, &low, &high);
    CHECK(bytes == 7 && low == 7 && high == 7);
    CHECK(!mezzo_device_name(NULL) && mezzo_device_memory(NULL) == 0 && mezzo_device_compute_capability(NULL) == 0);
    CHECK(mezzo_device_multiprocessors(NULL) == 0 && mezzo_device_collect() == 0);

    NULLS(mezzo_stream_new, "stream", 0, 0, NULL);
    NULLS(mezzo_stream_from_cuda, "stream", 0, NULL, NULL);
    NULLS(mezzo_stream_synchronize, "stream", NULL);
    NULLS(mezzo_stream_is_done, "done", NULL, NULL);
    NULLS(mezzo_stream_wait_event, "stream", NULL, NULL);
    CHECK(!mezzo_stream_cuda(NULL));
    mezzo_stream_free(NULL);

    NULLS(mezzo_event_new, "event", 0, true, NULL);
    NULLS(mezzo_event_record, "event", NULL, NULL);
    NULLS(mezzo_event_synchronize, "event", NULL);
    NULLS(mezzo_event_is_done, "done", NULL, NULL);
    NULLS(mezzo_event_elapsed, "milliseconds", NULL, NULL, NULL);
    CHECK(!mezzo_event_cuda(NULL));
    mezzo_event_free(NULL);

    NULLS(mezzo_buffer_new_device, "buffer", 0, 1, NULL);
    NULLS(mezzo_buffer_new_async, "buffer", NULL, 1, NULL);
    NULLS(mezzo_buffer_new_pinned, "buffer", 0, 1, NULL);
    NULLS(mezzo_buffer_from_device_memory, "buffer", 0, NULL, 0, NULL, NULL, NULL);
    NULLS(mezzo_buffer_copy_async, "to", NULL, 0, NULL, 0, 0, NULL);
    NULLS(mezzo_buffer_fill_async, "buffer", NULL, 0, 0, 0, NULL);
    NULLS(mezzo_buffer_convert_async, "to", NULL, 0, MEZZO_DTYPE_FP16, NULL, 0, MEZZO_DTYPE_FP32, 0, NULL);
    CHECK(mezzo_buffer_device(NULL) == -1);

    NULLS(mezzo_engine_options_set_device, "options", NULL, 0);
    NULLS(mezzo_context_enqueue, "context", NULL, NULL);
    NULLS(mezzo_context_set_cuda_graph, "context", NULL, true);
    NULLS(mezzo_context_graph_counts, "context", NULL, NULL, NULL);
    NULLS(mezzo_context_set_profiling, "context", NULL, true);
    NULLS(mezzo_context_layer_times, "callback", NULL, NULL, NULL);
    NULLS(mezzo_context_pool_new, "engine", NULL, 1, NULL);
    NULLS(mezzo_context_pool_acquire, "pool", NULL, 0, NULL);
    NULLS(mezzo_context_pool_release, "pool", NULL, NULL);
    CHECK(mezzo_context_pool_leased(NULL) == 0);
    mezzo_context_pool_free(NULL);
    NULLS(mezzo_context_memory_new, "memory", 0, NULL);
    CHECK(mezzo_context_memory_byte_size(NULL) == 0);
    NULLS(mezzo_context_new_sharing, "engine", NULL, NULL, NULL);
    mezzo_context_memory_free(NULL);
    NULLS(mezzo_value_to_dlpack, "tensor", NULL, NULL, NULL, NULL);
    NULLS(mezzo_value_from_dlpack, "value", NULL, NULL, NULL, NULL);
}

static void no_driver(void)
{
    size_t count = 7;
    mezzo_error_t *error = mezzo_device_count(&count);
    if (!error) {
        printf("a CUDA driver is here: its absence is not tested\n");
        return;
    }
    mezzo_error_free(error);
    CHECK(count == 7);
    int32_t version = 7;
    const mezzo_device_t *device = UNTOUCHED;
    mezzo_stream_t *stream = UNTOUCHED;
    mezzo_event_t *event = UNTOUCHED;
    mezzo_buffer_t *buffer = UNTOUCHED;
    REFUSED(mezzo_device_count(&count), MEZZO_ERROR_NOT_FOUND, "libcuda.so.1", "'cpu'");
    REFUSED(mezzo_device_driver_version(&version), MEZZO_ERROR_NOT_FOUND, "CUDA driver");
    REFUSED(mezzo_device_get(0, &device), MEZZO_ERROR_NOT_FOUND, "CUDA driver");
    REFUSED(mezzo_stream_new(0, 0, &stream), MEZZO_ERROR_NOT_FOUND, "CUDA driver");
    REFUSED(mezzo_stream_from_cuda(0, NULL, &stream), MEZZO_ERROR_NOT_FOUND, "CUDA driver");
    REFUSED(mezzo_event_new(0, false, &event), MEZZO_ERROR_NOT_FOUND, "CUDA driver");
    REFUSED(mezzo_buffer_new_device(0, 16, &buffer), MEZZO_ERROR_NOT_FOUND, "CUDA driver");
    REFUSED(mezzo_buffer_new_pinned(0, 16, &buffer), MEZZO_ERROR_NOT_FOUND, "CUDA driver");
    REFUSED(mezzo_buffer_from_device_memory(0, NULL, 16, count_release, NULL, &buffer), MEZZO_ERROR_NOT_FOUND,
            "CUDA driver");
    CHECK(version == 7 && device == UNTOUCHED && stream == UNTOUCHED && event == UNTOUCHED && buffer == UNTOUCHED);
}

/* DLPack's structure, as its own header (version 1) has it. */
typedef struct tensor {
    struct {
        uint32_t major, minor;
    } version;
    void *manager;
    void (*deleter)(struct tensor *);
    uint64_t flags;
    void *data;
    struct {
        int32_t kind, id;
    } device;
    int32_t rank;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } type;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} tensor;

static void count_deletion(tensor *t)
{
    ++*(int *)t->manager;
}

static void dlpack(void)
{
    const int64_t dims[] = {2, 3};
    const float numbers[] = {1, 2, 3, 4, 5, 6};
    mezzo_value_t *value = NULL, *back = NULL;
    void *given = NULL;
    OK(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP32, dims, 2, numbers, sizeof numbers, &value));
    OK(mezzo_value_to_dlpack(value, NULL, NULL, &given));
    tensor *t = given;
    CHECK(t->version.major == 1 && t->device.kind == 1 && t->rank == 2 && t->type.code == 2 && t->type.bits == 32);
    CHECK(t->type.lanes == 1 && t->shape[0] == 2 && t->shape[1] == 3 && t->strides[0] == 3 && t->strides[1] == 1);
    CHECK(t->data == mezzo_value_data(value) && t->byte_offset == 0);
    mezzo_value_free(value); /* the memory stays */
    CHECK(memcmp(t->data, numbers, sizeof numbers) == 0);
    OK(mezzo_value_from_dlpack(t, NULL, NULL, &back));
    CHECK(mezzo_value_data(back) == t->data && mezzo_value_count(back) == 6);
    mezzo_value_free(back);

    int deleted = 0;
    int64_t shape[] = {4}, strides[] = {2};
    uint16_t halves[8] = {0};
    tensor own = {.version = {1, 1}, .manager = &deleted, .deleter = count_deletion, .data = halves, .device = {1, 0},
                  .rank = 1, .type = {2, 16, 1}, .shape = shape, .strides = strides, .byte_offset = 2};
    REFUSED(mezzo_value_from_dlpack(&own, NULL, NULL, &back), MEZZO_ERROR_UNSUPPORTED, "contiguous");
    own.strides = NULL;
    own.type.lanes = 4;
    REFUSED(mezzo_value_from_dlpack(&own, NULL, NULL, &back), MEZZO_ERROR_UNSUPPORTED, "lanes");
    own.type.lanes = 1;
    own.version.major = 9;
    REFUSED(mezzo_value_from_dlpack(&own, NULL, NULL, &back), MEZZO_ERROR_VERSION, "9.1");
    own.version.major = 1;
    own.device.kind = 8;
    REFUSED(mezzo_value_from_dlpack(&own, NULL, NULL, &back), MEZZO_ERROR_UNSUPPORTED, "kind 8");
    own.device.kind = 1;
    CHECK(deleted == 0);
    OK(mezzo_value_from_dlpack(&own, NULL, NULL, &back));
    CHECK(mezzo_value_dtype(back) == MEZZO_DTYPE_FP16 && mezzo_value_data(back) == halves + 1 && deleted == 0);
    mezzo_value_free(back);
    CHECK(deleted == 1);

    const char *word = "word";
    const size_t length = 4;
    OK(mezzo_value_new_strings(NULL, 0, &word, &length, 1, &value));
    REFUSED(mezzo_value_to_dlpack(value, NULL, NULL, &given), MEZZO_ERROR_TYPE_MISMATCH, "tensor");
    mezzo_value_free(value);
}

static mezzo_context_pool_t *pool;

static void *lease(void *argument)
{
    for (int i = 0; i < 100; i++) {
        mezzo_context_t *context = NULL;
        mezzo_value_t *x = argument, *y = NULL;
        OK(mezzo_context_pool_acquire(pool, -1, &context));
        OK(mezzo_context_bind(context, "x", x));
        OK(mezzo_context_run(context, NULL));
        OK(mezzo_context_output(context, "y", &y));
        mezzo_value_free(y);
        OK(mezzo_context_pool_release(pool, context));
    }
    return NULL;
}

static void pools(void)
{
    pb bytes = linear_model();
    mezzo_model_t *model = NULL;
    mezzo_engine_t *engine = NULL;
    mezzo_value_t *x = NULL;
    const int64_t dims[] = {4, 3};
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model));
    OK(mezzo_engine_build(NULL, model, "cpu", NULL, &engine));
    OK(mezzo_engine_random_input(engine, "x", dims, 2, 1, &x));
    REFUSED(mezzo_context_pool_new(engine, 0, &pool), MEZZO_ERROR_INVALID_ARGUMENT, "'most'");
    OK(mezzo_context_pool_new(engine, 2, &pool));
    mezzo_context_t *one = NULL, *two = NULL, *three = UNTOUCHED;
    OK(mezzo_context_pool_acquire(pool, 0, &one));
    OK(mezzo_context_pool_acquire(pool, 0, &two));
    CHECK(one != two && mezzo_context_pool_leased(pool) == 2);
    REFUSED(mezzo_context_pool_acquire(pool, 0, &three), MEZZO_ERROR_BUSY, "2 contexts");
    REFUSED(mezzo_context_pool_acquire(pool, 20, &three), MEZZO_ERROR_BUSY, "2 contexts");
    CHECK(three == UNTOUCHED);
    OK(mezzo_context_bind(one, "x", x));
    OK(mezzo_context_pool_release(pool, one));
    REFUSED(mezzo_context_pool_release(pool, one), MEZZO_ERROR_NOT_FOUND, "not leased");
    OK(mezzo_context_pool_acquire(pool, 0, &three));
    CHECK(three == one);
    REFUSED(mezzo_context_run(three, NULL), MEZZO_ERROR_INVALID_STATE, "'x'"); /* nothing is bound any more */
    OK(mezzo_context_pool_release(pool, three));
    OK(mezzo_context_pool_release(pool, two));
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        CHECK(pthread_create(&threads[i], NULL, lease, x) == 0);
    for (int i = 0; i < 6; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(mezzo_context_pool_leased(pool) == 0);

    /* The host's engines have no device: each option says so. */
    OK(mezzo_context_pool_acquire(pool, 0, &one));
    NULLS(mezzo_context_enqueue, "stream", one, NULL);
    REFUSED(mezzo_context_set_cuda_graph(one, true), MEZZO_ERROR_UNSUPPORTED, "CUDA graphs");
    OK(mezzo_context_set_cuda_graph(one, false));
    uint64_t captured = 1, replayed = 1;
    OK(mezzo_context_graph_counts(one, &captured, &replayed));
    CHECK(captured == 0 && replayed == 0);
    OK(mezzo_context_graph_counts(one, NULL, NULL));
    REFUSED(mezzo_context_set_profiling(one, true), MEZZO_ERROR_UNSUPPORTED, "layers");
    mezzo_context_pool_free(pool);
    OK(mezzo_context_bind(one, "x", x)); /* a leased context outlives its pool */
    OK(mezzo_context_run(one, NULL));
    mezzo_context_free(one);
    mezzo_value_free(x);
    mezzo_engine_free(engine);
    mezzo_model_free(model);
    pb_free(&bytes);
}

void test(void)
{
    null_arguments();
    no_driver();
    dlpack();
    pools();
}
