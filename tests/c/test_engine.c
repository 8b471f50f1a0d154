/* Engines and contexts: built, saved, loaded, executed, compared. */
#include "check.h"
#include "onnx_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mezzo_engine_t *build(const pb *bytes)
{
    mezzo_model_t *model = NULL;
    mezzo_engine_t *engine = NULL;
    OK(mezzo_model_load_memory(NULL, bytes->data, bytes->size, NULL, NULL, NULL, &model));
    OK(mezzo_engine_build(NULL, model, "cpu", NULL, &engine));
    mezzo_model_free(model);
    return engine;
}

static mezzo_engine_t *linear_engine(void)
{
    pb bytes = linear_model();
    mezzo_engine_t *engine = build(&bytes);
    pb_free(&bytes);
    return engine;
}

static mezzo_value_t *floats(int64_t rows, int64_t columns, const float *data)
{
    const int64_t dims[] = {rows, columns};
    mezzo_value_t *value = NULL;
    OK(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP32, dims, 2, data, (size_t)(rows * columns) * sizeof(float), &value));
    return value;
}

/* Rows of x, and of Relu(x W + b). */
static const float x_data[6] = {1, 0, 0, 0, 10, 20};
static const float y_data[4] = {1.5f, 0, 130.5f, 60};

static void runs(mezzo_engine_t *engine)
{
    mezzo_context_t *context = NULL;
    mezzo_value_t *x = floats(2, 3, x_data), *y = NULL;
    OK(mezzo_context_new(engine, &context));
    OK(mezzo_context_bind(context, "x", x));
    mezzo_value_free(x); /* the context holds the memory */
    OK(mezzo_context_run(context, NULL));
    OK(mezzo_context_output(context, "y", &y));
    CHECK(mezzo_value_count(y) == 4 && memcmp(mezzo_value_data(y), y_data, sizeof y_data) == 0);
    int64_t bytes = -2;
    OK(mezzo_context_activation_bytes(context, &bytes));
    CHECK(bytes >= -1);
    mezzo_context_free(context);
    CHECK(((float *)mezzo_value_data(y))[2] == 130.5f); /* the value outlives the context */
    mezzo_value_free(y);
}

static void described(void)
{
    mezzo_engine_t *engine = linear_engine();
    CHECK(mezzo_engine_input_count(engine) == 1 && mezzo_engine_output_count(engine) == 1);
    const mezzo_io_t *io = NULL;
    OK(mezzo_engine_find_input(engine, "x", &io));
    CHECK(io == mezzo_engine_input(engine, 0) && strcmp(mezzo_io_text(io), "fp32 [N,3]") == 0);
    OK(mezzo_engine_find_output(engine, "y", &io));
    CHECK(io == mezzo_engine_output(engine, 0) && !mezzo_engine_output(engine, 1) && !mezzo_engine_input(engine, 1));
    io = UNTOUCHED;
    REFUSED(mezzo_engine_find_input(engine, "y", &io), MEZZO_ERROR_NOT_FOUND, "'y'", "'x'");
    REFUSED(mezzo_engine_find_output(engine, "z", &io), MEZZO_ERROR_NOT_FOUND, "'z'", "'y'");
    CHECK(io == UNTOUCHED);
    CHECK(strcmp(mezzo_engine_backend(engine), "cpu") == 0 && *mezzo_engine_backend_version(engine));
    CHECK(mezzo_engine_weight_bytes(engine) == 32 && mezzo_engine_node_count(engine) >= 1);
    CHECK(mezzo_engine_float_nodes(engine) >= 1 && mezzo_engine_half_nodes(engine) == 0);
    CHECK(mezzo_engine_activation_bytes(engine) >= -1);
    CONTAINS(mezzo_engine_inspect_json(engine), "MatMul");
    mezzo_engine_t *same = mezzo_engine_retain(engine);
    mezzo_engine_free(engine);
    runs(same);
    mezzo_engine_free(same);
}

static void not_buildable(void)
{
    mezzo_model_t *model = NULL;
    mezzo_engine_t *engine = UNTOUCHED;
    pb bytes = linear_model();
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model));
    REFUSED(mezzo_engine_build(NULL, model, "gpu", NULL, &engine), MEZZO_ERROR_NOT_FOUND, "'gpu'", "'cpu'");
    REFUSED(mezzo_engine_build(NULL, model, NULL, NULL, &engine), MEZZO_ERROR_INVALID_ARGUMENT, "'backend'", "NULL");
    REFUSED(mezzo_engine_build(NULL, NULL, "cpu", NULL, &engine), MEZZO_ERROR_INVALID_ARGUMENT, "'model'", "NULL");
    REFUSED(mezzo_engine_build(NULL, model, "cpu", NULL, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'engine'", "NULL");
    mezzo_model_free(model);
    pb_free(&bytes);

    /* All unknown operators at once. */
    const dim dims[] = {{4, NULL}};
    pb graph = {0};
    graph_io(&graph, 11, "x", 1, dims, 1);
    graph_io(&graph, 12, "y", 1, dims, 1);
    graph_node(&graph, "first", "Frobnicate", "com.example", "x", NULL, "a");
    graph_node(&graph, "second", "Relu", "", "a", NULL, "b");
    graph_node(&graph, "third", "Defenestrate", "com.example", "b", NULL, "y");
    bytes = model_of(&graph);
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model));
    REFUSED(mezzo_engine_build(NULL, model, "cpu", NULL, &engine), MEZZO_ERROR_UNSUPPORTED, "Frobnicate", "Defenestrate");
    CHECK(engine == UNTOUCHED);
    mezzo_model_free(model);
    pb_free(&bytes);
}

typedef struct watch {
    int calls, stop_at, released;
} watch;

static bool on_progress(void *user, const char *phase, float fraction)
{
    watch *w = user;
    CHECK(phase && *phase && fraction >= 0 && fraction <= 1);
    return ++w->calls != w->stop_at;
}

static void on_progress_release(void *user)
{
    ((watch *)user)->released++;
}

static void progress(void)
{
    watch w = {0, 1, 0};
    mezzo_model_t *model = NULL;
    mezzo_engine_t *engine = UNTOUCHED;
    mezzo_engine_options_t *options = mezzo_engine_options_new();
    OK(mezzo_model_load_file(NULL, fixture("digits/digits.onnx"), NULL, &model));
    OK(mezzo_engine_options_set_progress(options, on_progress, &w, on_progress_release));
    REFUSED(mezzo_engine_build(NULL, model, "cpu", options, &engine), MEZZO_ERROR_CANCELLED, "progress");
    CHECK(engine == UNTOUCHED && w.calls == 1 && w.released == 0);
    w.stop_at = 0;
    OK(mezzo_engine_options_set(options, "threads", "1"));
    OK(mezzo_engine_options_set_threads(options, 1));
    REFUSED(mezzo_engine_options_set(options, "threads", "x"), MEZZO_ERROR_INVALID_ARGUMENT, "'x'");
    REFUSED(mezzo_engine_options_set(options, "optimise", "x"), MEZZO_ERROR_NOT_FOUND, "'optimise'", "'threads'");
    OK(mezzo_engine_build(NULL, model, "cpu", options, &engine));
    CHECK(w.calls > 1);
    mezzo_engine_options_free(options);
    CHECK(w.released == 1);
    mezzo_engine_free(engine);
    mezzo_model_free(model);
}

/* What needs more memory than the caller allows is an error that says so, and the context runs on with less. */
static void limited(mezzo_engine_t *engine)
{
    mezzo_context_t *context = NULL;
    static const float zeros[3000];
    mezzo_value_t *small = floats(2, 3, x_data), *large = floats(1000, 3, zeros);
    OK(mezzo_context_new(engine, &context));
    OK(mezzo_context_bind(context, "x", large));
    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_OUT_OF_MEMORY, "node", "8000 bytes", "in use",
            "limit is 6000 bytes", "raise");
    OK(mezzo_context_bind(context, "x", small));
    OK(mezzo_context_run(context, NULL));
    mezzo_value_free(small);
    mezzo_value_free(large);
    mezzo_context_free(context);
}

static void memory_limit(void)
{
    pb bytes = linear_model();
    mezzo_model_t *model = NULL;
    mezzo_engine_t *engine = NULL, *loaded = NULL;
    mezzo_engine_options_t *options = mezzo_engine_options_new();
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model));
    OK(mezzo_engine_options_set_memory_limit(options, 6000));
    OK(mezzo_engine_build(NULL, model, "cpu", options, &engine));
    limited(engine);
    REFUSED(mezzo_engine_build(NULL, model, "tensorrt", options, &loaded), MEZZO_ERROR_UNSUPPORTED, "memory limit",
            "'tensorrt.workspace'");
    const char *path = scratch("limited.engine");
    OK(mezzo_engine_save_file(engine, path));
    OK(mezzo_engine_load_file(NULL, path, options, &loaded));
    limited(loaded);
    mezzo_engine_free(loaded);
    /* The file does not keep the limit. */
    OK(mezzo_engine_options_set(options, "memory_limit", "0"));
    OK(mezzo_engine_load_file(NULL, path, options, &loaded));
    runs(loaded);
    REFUSED(mezzo_engine_options_set(options, "memory_limit", "much"), MEZZO_ERROR_INVALID_ARGUMENT, "'much'", "bytes");
    mezzo_engine_free(loaded);
    mezzo_engine_free(engine);
    mezzo_engine_options_free(options);
    mezzo_model_free(model);
    pb_free(&bytes);
}

static void bound(void)
{
    mezzo_engine_t *engine = linear_engine();
    mezzo_context_t *context = UNTOUCHED;
    mezzo_value_t *y = UNTOUCHED, *value = NULL;
    mezzo_buffer_t *x_buffer = NULL, *y_buffer = NULL;
    const int64_t right[] = {2, 3}, wrong[] = {2, 4}, line[] = {3};
    const int64_t negative[] = {-2, 3};
    float back[4] = {0};
    OK(mezzo_context_new(engine, &context));
    mezzo_engine_free(engine);

    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_INVALID_STATE, "'x'", "bind");
    REFUSED(mezzo_context_output(context, "y", &y), MEZZO_ERROR_INVALID_STATE, "'y'", "run");
    REFUSED(mezzo_context_output(context, "x", &y), MEZZO_ERROR_INVALID_ARGUMENT, "'x'", "input");
    CHECK(y == UNTOUCHED);

    /* Unknown name, wrong type, wrong rank, wrong dimension. */
    value = floats(2, 3, x_data);
    REFUSED(mezzo_context_bind(context, "image", value), MEZZO_ERROR_NOT_FOUND, "'image'", "'x'", "'y'");
    REFUSED(mezzo_context_bind(context, "x", NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'value'", "NULL");
    mezzo_value_t *half = NULL, *flat = NULL, *wide = NULL;
    OK(mezzo_value_to_float(value, MEZZO_DTYPE_FP16, &half));
    REFUSED(mezzo_context_bind(context, "x", half), MEZZO_ERROR_TYPE_MISMATCH, "'x'", "fp32 [N,3]", "fp16 [2, 3]",
            "mezzo_value_to_float");
    OK(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP32, line, 1, &flat));
    REFUSED(mezzo_context_bind(context, "x", flat), MEZZO_ERROR_SHAPE_MISMATCH, "'x'", "[N,3]", "[3]", "rank 1");
    OK(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP32, wrong, 2, &wide));
    REFUSED(mezzo_context_bind(context, "x", wide), MEZZO_ERROR_SHAPE_MISMATCH, "'x'", "[N,3]", "[2, 4]");
    mezzo_value_free(wide);
    mezzo_value_free(flat);
    mezzo_value_free(half);

    /* A buffer needs a shape, and must be large enough. */
    OK(mezzo_buffer_new(NULL, sizeof x_data, &x_buffer));
    OK(mezzo_buffer_copy_in(x_buffer, 0, x_data, sizeof x_data));
    OK(mezzo_buffer_new(NULL, sizeof y_data + 4, &y_buffer));
    OK(mezzo_context_bind_buffer(context, "x", x_buffer, 0));
    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_SHAPE_MISMATCH, "'x'", "[N,3]", "mezzo_context_set_input_shape");
    REFUSED(mezzo_context_set_input_shape(context, "x", wrong, 2), MEZZO_ERROR_SHAPE_MISMATCH, "'x'", "[2, 4]");
    REFUSED(mezzo_context_set_input_shape(context, "x", line, 1), MEZZO_ERROR_SHAPE_MISMATCH, "'x'", "rank 1");
    REFUSED(mezzo_context_set_input_shape(context, "x", negative, 2), MEZZO_ERROR_INVALID_ARGUMENT, "'dims'", "-2");
    REFUSED(mezzo_context_set_input_shape(context, "y", right, 2), MEZZO_ERROR_INVALID_ARGUMENT, "'y'", "output");
    REFUSED(mezzo_context_set_input_shape(context, "z", right, 2), MEZZO_ERROR_NOT_FOUND, "'z'");
    const int64_t large[] = {1000, 3};
    OK(mezzo_context_set_input_shape(context, "x", large, 2));
    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_SIZE_MISMATCH, "'x'", "12000 bytes", "24 bytes");
    OK(mezzo_context_set_input_shape(context, "x", right, 2));
    REFUSED(mezzo_context_bind_buffer(context, "x", x_buffer, 25), MEZZO_ERROR_SIZE_MISMATCH, "25");
    REFUSED(mezzo_context_bind_buffer(context, "x", NULL, 0), MEZZO_ERROR_INVALID_ARGUMENT, "'buffer'", "NULL");

    /* The shape of an output. */
    int64_t dims[4] = {7, 7, 7, 7};
    size_t rank = 9;
    OK(mezzo_context_output_shape(context, "y", dims, 4, &rank));
    CHECK(rank == 2 && dims[0] == 2 && dims[1] == 2 && dims[2] == 7);
    OK(mezzo_context_output_shape(context, "y", NULL, 0, &rank));
    CHECK(rank == 2);
    rank = 9;
    dims[0] = 7;
    REFUSED(mezzo_context_output_shape(context, "y", dims, 1, &rank), MEZZO_ERROR_SIZE_MISMATCH, "'y'", "2 dimensions");
    REFUSED(mezzo_context_output_shape(context, "q", dims, 4, &rank), MEZZO_ERROR_NOT_FOUND, "'q'");
    CHECK(rank == 9 && dims[0] == 7);

    /* Outputs in memory of the caller's. */
    OK(mezzo_context_bind_buffer(context, "y", y_buffer, 8));
    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_SIZE_MISMATCH, "'y'", "16 bytes", "12 bytes");
    OK(mezzo_context_bind_buffer(context, "y", x_buffer, 0));
    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'y'", "'x'", "same buffer");
    OK(mezzo_context_bind_buffer(context, "y", y_buffer, 4));
    OK(mezzo_context_run(context, NULL));
    OK(mezzo_buffer_copy_out(y_buffer, 4, back, sizeof back));
    CHECK(memcmp(back, y_data, sizeof back) == 0);
    OK(mezzo_context_output(context, "y", &y));
    CHECK(mezzo_value_data(y) == (char *)mezzo_buffer_data(y_buffer) + 4);
    mezzo_value_free(y);

    /* A failing run leaves the result of the one before. */
    OK(mezzo_context_bind(context, "x", value));
    OK(mezzo_context_unbind(context, "x"));
    REFUSED(mezzo_context_unbind(context, "nobody"), MEZZO_ERROR_NOT_FOUND, "'nobody'");
    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_INVALID_STATE, "'x'");
    OK(mezzo_context_output(context, "y", &y));
    CHECK(memcmp(mezzo_value_data(y), y_data, sizeof y_data) == 0);
    mezzo_value_free(y);
    mezzo_value_free(value);
    mezzo_buffer_free(x_buffer);
    mezzo_buffer_free(y_buffer);
    mezzo_context_free(context);
    context = NULL;
    REFUSED(mezzo_context_run(context, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'context'", "NULL");
}

static void stored(void)
{
    mezzo_engine_t *engine = linear_engine(), *again = UNTOUCHED;
    const char *path = scratch("linear.engine");
    OK(mezzo_engine_save_file(engine, path));
    REFUSED(mezzo_engine_save_file(engine, scratch("no/folder/e.engine")), MEZZO_ERROR_NOT_FOUND, "no/folder/e.engine");
    REFUSED(mezzo_engine_save_file(engine, scratch(".")), MEZZO_ERROR_INVALID_ARGUMENT, "directory");
    REFUSED(mezzo_engine_save_plan(engine, scratch("linear.plan")), MEZZO_ERROR_UNSUPPORTED, "'cpu'", "no plan");
    mezzo_engine_free(engine);

    /* Plans are code: nothing loads one unasked. */
    REFUSED(mezzo_engine_load_plan(NULL, path, "tensorrt", NULL, &again), MEZZO_ERROR_INVALID_FILE, "Mezzo engine");
    FILE *plan = fopen(scratch("some.plan"), "wb");
    CHECK(plan != NULL && fputs("a plan", plan) >= 0 && fclose(plan) == 0);
    REFUSED(mezzo_engine_load_plan(NULL, scratch("some.plan"), "tensorrt", NULL, &again), MEZZO_ERROR_INVALID_ARGUMENT,
            "trust_plan");
    REFUSED(mezzo_engine_load_plan(NULL, scratch("some.plan"), "cpu", NULL, &again), MEZZO_ERROR_UNSUPPORTED, "no plans");

    OK(mezzo_engine_load_file(NULL, path, NULL, &again));
    CHECK(mezzo_engine_weight_bytes(again) == 32 && strcmp(mezzo_io_text(mezzo_engine_input(again, 0)), "fp32 [N,3]") == 0);
    runs(again);
    mezzo_engine_free(again);

    size_t size;
    int released = 0;
    unsigned char *bytes = read_file(path, &size);
    OK(mezzo_engine_load_memory(NULL, bytes, size, count_release, &released, NULL, &again));
    runs(again);
    CHECK(released == 0);
    mezzo_engine_free(again);
    CHECK(released == 1);

    /* Every truncation is seen, and every flipped bit but those of padding. */
    again = UNTOUCHED;
    for (size_t cut = 0; cut < size; cut += size / 61 + 1) {
        unsigned char *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        REFUSED(mezzo_engine_load_memory(NULL, part, cut, NULL, NULL, NULL, &again), MEZZO_ERROR_INVALID_FILE, "engine");
        free(part);
    }
    for (size_t at = 0; at < size; at += size / 211 + 1) {
        bytes[at] ^= 4;
        mezzo_error_t *error = mezzo_engine_load_memory(NULL, bytes, size, NULL, NULL, NULL, &again);
        bytes[at] ^= 4;
        CHECK(error || bytes[at] == 0);
        CHECK(mezzo_error_code(error) != MEZZO_ERROR_INTERNAL);
        if (!error) {
            mezzo_engine_free(again);
            again = UNTOUCHED;
        }
        mezzo_error_free(error);
    }
    CHECK(again == UNTOUCHED);
    free(bytes);
}

static void compared(void)
{
    mezzo_model_t *model = NULL, *half = NULL;
    mezzo_engine_t *a = NULL, *b = NULL;
    mezzo_value_t *image = NULL, *same = NULL, *other = NULL, *none = UNTOUCHED;
    mezzo_comparison_t *comparison = NULL;
    OK(mezzo_model_load_file(NULL, fixture("digits/digits.onnx"), NULL, &model));
    OK(mezzo_model_convert(model, NULL, &half, NULL));
    OK(mezzo_engine_build(NULL, model, "cpu", NULL, &a));
    OK(mezzo_engine_build(NULL, half, "cpu", NULL, &b));
    mezzo_model_free(half);
    mezzo_model_free(model);

    const int64_t dims[] = {5, 1, 8, 8}, wrong[] = {5, 1, 8};
    OK(mezzo_engine_random_input(a, "image", dims, 4, 7, &image));
    OK(mezzo_engine_random_input(a, "image", dims, 4, 7, &same));
    OK(mezzo_engine_random_input(a, "image", NULL, 0, 8, &other));
    CHECK(mezzo_value_count(image) == 320 && mezzo_value_count(other) == 64);
    CHECK(memcmp(mezzo_value_data(image), mezzo_value_data(same), mezzo_value_byte_size(image)) == 0);
    REFUSED(mezzo_engine_random_input(a, "picture", NULL, 0, 8, &none), MEZZO_ERROR_NOT_FOUND, "'picture'", "'image'");
    CHECK(none == UNTOUCHED);

    const char *names[] = {"image"};
    const mezzo_value_t *values[] = {image};
    OK(mezzo_compare(a, b, names, values, 1, &comparison));
    CHECK(mezzo_comparison_count(comparison) == 1 && strcmp(mezzo_comparison_name(comparison, 0), "logits") == 0);
    CHECK(mezzo_comparison_elements(comparison, 0) == 50);
    CHECK(mezzo_comparison_max_abs(comparison, 0) > 0 && mezzo_comparison_max_rel(comparison, 0) < 0.02);
    CHECK(mezzo_comparison_rms(comparison, 0) <= mezzo_comparison_max_abs(comparison, 0));
    CHECK(mezzo_comparison_cosine(comparison, 0) > 0.999 && mezzo_comparison_top1_agreement(comparison, 0) >= 0.8);
    CHECK(mezzo_comparison_nan_a(comparison, 0) + mezzo_comparison_nan_b(comparison, 0) == 0);
    CHECK(mezzo_comparison_inf_a(comparison, 0) + mezzo_comparison_inf_b(comparison, 0) == 0);
    CHECK(mezzo_comparison_non_finite_mismatches(comparison, 0) == 0);
    CONTAINS(mezzo_comparison_to_json(comparison), "\"logits\"");
    CHECK(isnan(mezzo_comparison_max_abs(comparison, 1)) && !*mezzo_comparison_name(comparison, 1));
    mezzo_comparison_free(comparison);

    comparison = UNTOUCHED;
    REFUSED(mezzo_compare(a, b, names, values, 0, &comparison), MEZZO_ERROR_INVALID_STATE, "'image'");
    names[0] = "picture";
    REFUSED(mezzo_compare(a, b, names, values, 1, &comparison), MEZZO_ERROR_NOT_FOUND, "'picture'");
    names[0] = NULL;
    REFUSED(mezzo_compare(a, b, names, values, 1, &comparison), MEZZO_ERROR_INVALID_ARGUMENT, "names[0]", "NULL");
    names[0] = "image";
    values[0] = NULL;
    REFUSED(mezzo_compare(a, b, names, values, 1, &comparison), MEZZO_ERROR_INVALID_ARGUMENT, "values[0]", "NULL");
    REFUSED(mezzo_compare(a, NULL, names, values, 1, &comparison), MEZZO_ERROR_INVALID_ARGUMENT, "'b'", "NULL");
    OK(mezzo_value_new_tensor(NULL, MEZZO_DTYPE_FP32, wrong, 3, &none));
    values[0] = none;
    REFUSED(mezzo_compare(a, b, names, values, 1, &comparison), MEZZO_ERROR_SHAPE_MISMATCH, "'image'", "[5, 1, 8]");
    CHECK(comparison == UNTOUCHED);
    mezzo_value_free(none);
    mezzo_value_free(other);
    mezzo_value_free(same);
    mezzo_value_free(image);
    mezzo_engine_free(b);
    mezzo_engine_free(a);
}

typedef struct tap {
    int seen, released, stop_after;
    mezzo_cancel_t *cancel;
    mezzo_context_t *context;
    mezzo_value_t *kept;
    char names[256];
} tap;

static void on_tap(void *user, const char *name, const mezzo_value_t *value)
{
    tap *t = user;
    t->seen++;
    CHECK(mezzo_value_kind(value) == MEZZO_KIND_TENSOR);
    strncat(t->names, name, sizeof t->names - strlen(t->names) - 2);
    strcat(t->names, " ");
    if (strcmp(name, "sum") == 0 && !t->kept)
        OK(mezzo_value_clone(value, &t->kept));
    if (t->context) {
        /* The context is running: a second call is told so, and does not race or wait. */
        int64_t bytes = -7;
        REFUSED(mezzo_context_run(t->context, NULL), MEZZO_ERROR_BUSY, "mezzo_context_run", "in use");
        REFUSED(mezzo_context_activation_bytes(t->context, &bytes), MEZZO_ERROR_BUSY, "in use");
        CHECK(bytes == -7);
    }
    if (t->seen == t->stop_after)
        mezzo_cancel_request(t->cancel);
}

static void on_tap_release(void *user)
{
    ((tap *)user)->released++;
}

static void watched(void)
{
    mezzo_engine_t *engine = linear_engine();
    mezzo_context_t *context = NULL;
    mezzo_run_options_t *options = mezzo_run_options_new();
    mezzo_value_t *x = floats(2, 3, x_data), *y = NULL;
    tap t = {0};
    OK(mezzo_context_new(engine, &context));
    OK(mezzo_context_bind(context, "x", x));
    t.context = context;
    t.cancel = mezzo_cancel_new();
    OK(mezzo_run_options_set_cancel(options, t.cancel));
    OK(mezzo_run_options_set_tap(options, on_tap, &t, on_tap_release));
    OK(mezzo_context_run(context, options));
    CHECK(t.seen >= 3);
    CONTAINS(t.names, "xw ");
    CONTAINS(t.names, "y ");
    CHECK(t.kept && ((float *)mezzo_value_data(t.kept))[1] == -98);

    t.stop_after = t.seen + 1;
    REFUSED(mezzo_context_run(context, options), MEZZO_ERROR_CANCELLED, "cancel");
    CHECK(mezzo_cancel_is_requested(t.cancel));
    REFUSED(mezzo_context_run(context, options), MEZZO_ERROR_CANCELLED, "cancel");
    OK(mezzo_context_output(context, "y", &y)); /* of the first run */
    CHECK(memcmp(mezzo_value_data(y), y_data, sizeof y_data) == 0);
    mezzo_value_free(y);

    mezzo_cancel_t *same = mezzo_cancel_retain(t.cancel);
    mezzo_cancel_free(t.cancel);
    mezzo_cancel_reset(same);
    OK(mezzo_context_run(context, options));
    mezzo_cancel_free(same); /* the options hold it */
    OK(mezzo_run_options_set_tap(options, NULL, NULL, NULL));
    CHECK(t.released == 1);
    OK(mezzo_run_options_set_cancel(options, NULL));
    OK(mezzo_context_run(context, options));
    mezzo_run_options_free(options);
    mezzo_value_free(t.kept);
    mezzo_value_free(x);
    mezzo_context_free(context);
    mezzo_engine_free(engine);
}

/* Freeing a context in the middle of its run (from a callback here, from another thread in a service) ends it after. */
static void on_tap_free(void *user, const char *name, const mezzo_value_t *value)
{
    mezzo_context_t **context = user;
    (void)name;
    (void)value;
    mezzo_context_free(*context);
    *context = NULL;
}

static void freed_while_running(void)
{
    mezzo_engine_t *engine = linear_engine();
    mezzo_context_t *context = NULL;
    mezzo_run_options_t *options = mezzo_run_options_new();
    mezzo_value_t *x = floats(2, 3, x_data);
    OK(mezzo_context_new(engine, &context));
    mezzo_engine_free(engine);
    OK(mezzo_context_bind(context, "x", x));
    OK(mezzo_run_options_set_tap(options, on_tap_free, &context, NULL));
    OK(mezzo_context_run(context, options));
    CHECK(!context);
    mezzo_value_free(x);
    mezzo_run_options_free(options);
}

void test(void)
{
    described();
    not_buildable();
    progress();
    bound();
    memory_limit();
    stored();
    compared();
    watched();
    freed_while_running();
}
