/* One engine on many threads: a context each gives right results; one context for all answers BUSY and never races. */
#include "check.h"
#include "onnx_writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, RUNS = 200, ROWS = 8 };

static mezzo_engine_t *engine;
static mezzo_context_t *shared;

static void run_own(long seed)
{
    const int64_t dims[] = {ROWS, 3};
    float x[ROWS * 3];
    mezzo_context_t *context = NULL;
    OK(mezzo_context_new(engine, &context));
    for (int run = 0; run < RUNS; run++) {
        for (int i = 0; i < ROWS * 3; i++)
            x[i] = (float)((seed * 31 + run * 7 + i) % 100);
        mezzo_value_t *in = NULL, *out = NULL;
        OK(mezzo_value_new_copy(NULL, MEZZO_DTYPE_FP32, dims, 2, x, sizeof x, &in));
        OK(mezzo_context_bind(context, "x", in));
        OK(mezzo_context_run(context, NULL));
        OK(mezzo_context_output(context, "y", &out));
        const float *y = mezzo_value_data(out);
        for (int r = 0; r < ROWS; r++) {
            const float *row = x + r * 3;
            CHECK(y[r * 2] == row[0] * 1 + row[1] * 3 + row[2] * 5 + 0.5f);
        }
        mezzo_value_free(out);
        mezzo_value_free(in);
    }
    mezzo_context_free(context);
}

static void *own_context(void *argument)
{
    run_own((long)(size_t)argument);
    return NULL;
}

static void *one_context(void *argument)
{
    size_t *busy = argument;
    for (int run = 0; run < RUNS * 5; run++) {
        mezzo_error_t *error = mezzo_context_run(shared, NULL);
        if (error) {
            CHECK(mezzo_error_code(error) == MEZZO_ERROR_BUSY);
            mezzo_error_free(error);
            ++*busy;
        }
    }
    return NULL;
}

/* Describing, retaining and freeing shared handles from all threads. */
static void *shared_handles(void *argument)
{
    (void)argument;
    for (int i = 0; i < RUNS * 10; i++) {
        mezzo_engine_t *mine = mezzo_engine_retain(engine);
        CHECK(strcmp(mezzo_io_name(mezzo_engine_input(mine, 0)), "x") == 0);
        CHECK(mezzo_engine_inspect_json(mine) == mezzo_engine_inspect_json(engine));
        mezzo_engine_free(mine);
    }
    return NULL;
}

static void on_all(void *(*work)(void *), size_t busy[THREADS])
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, busy ? (void *)&busy[i] : (void *)i) == 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

void test(void)
{
    pb bytes = linear_model();
    mezzo_model_t *model = NULL;
    mezzo_value_t *x = NULL;
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model));
    OK(mezzo_engine_build(NULL, model, "cpu", NULL, &engine));
    mezzo_model_free(model);
    pb_free(&bytes);

    on_all(own_context, NULL);
    on_all(shared_handles, NULL);

    const int64_t dims[] = {1000, 3};
    size_t busy[THREADS] = {0}, all = 0;
    OK(mezzo_context_new(engine, &shared));
    OK(mezzo_engine_random_input(engine, "x", dims, 2, 1, &x));
    OK(mezzo_context_bind(shared, "x", x));
    on_all(one_context, busy);
    for (size_t i = 0; i < THREADS; i++)
        all += busy[i];
    CHECK(all < (size_t)THREADS * RUNS * 5); /* some got through */
    mezzo_value_free(x);
    mezzo_context_free(shared);
    mezzo_engine_free(engine);
}
