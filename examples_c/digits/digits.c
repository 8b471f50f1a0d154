/* Loads a trained model, converts it to FP16, builds an engine for each precision, runs both on real handwritten digits
 * and prints what FP16 cost and gained. Exit code 0 only if FP16 loses at most half a point of accuracy.
 *
 *     digits MODEL digits_test.bin [--brief]
 *
 * MODEL is ONNX, a torch.export archive (.pt2) or a TorchScript archive (.pt). --brief leaves the pictures and the report out.
 */
#include "testset.h"

#include <mezzo/mezzo.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLASSES 10
#define SHOWN 5
#define ALLOWED_LOSS 0.5 /* points of accuracy */
#define ROUNDS 15

/* Every fallible call returns an error or NULL. The message says what is wrong and how to mend it. */
static void check(mezzo_error_t *error)
{
    if (error) {
        fprintf(stderr, "digits: %s\n", mezzo_error_message(error));
        mezzo_error_free(error);
        exit(1);
    }
}

static void *must(void *memory)
{
    if (!memory) {
        fputs("digits: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* One precision of the model, ready to run. */
typedef struct runner {
    mezzo_model_t *model;
    mezzo_engine_t *engine;
    mezzo_context_t *context;
    mezzo_dtype_t dtype; /* of its input and its output */
    uint8_t *answers;    /* the class of every image */
    size_t right;
    double best_ms; /* shortest time for all images */
} runner;

static void runner_open(runner *r, mezzo_model_t *model)
{
    r->model = model;
    check(mezzo_engine_build(NULL, model, "cpu", NULL, &r->engine));
    check(mezzo_context_new(r->engine, &r->context));
    r->dtype = mezzo_io_dtype(mezzo_engine_input(r->engine, 0));
}

static void runner_close(runner *r)
{
    mezzo_context_free(r->context);
    mezzo_engine_free(r->engine);
    mezzo_model_free(r->model);
    free(r->answers);
}

/* The images as a tensor of the type the engine expects: pixel / 16, which is exact in FP32 and in FP16. */
static mezzo_value_t *images_value(const testset *set, mezzo_dtype_t dtype)
{
    size_t pixels = set->count * set->height * set->width;
    float *scaled = must(malloc(pixels * sizeof *scaled));
    for (size_t i = 0; i < pixels; i++)
        scaled[i] = set->pixels[i] / 16.0f;

    const int64_t dims[] = {(int64_t)set->count, 1, (int64_t)set->height, (int64_t)set->width};
    mezzo_value_t *value = NULL;
    check(mezzo_value_new_tensor(NULL, dtype, dims, 4, &value));
    if (dtype == MEZZO_DTYPE_FP16)
        check(mezzo_convert_f32_to_f16(scaled, pixels, mezzo_value_data(value)));
    else
        check(mezzo_value_copy_in(value, scaled, pixels * sizeof *scaled));
    free(scaled);
    return value;
}

/* Runs all images at once; returns milliseconds. */
static double run_once(runner *r)
{
    struct timespec begin, end;
    timespec_get(&begin, TIME_UTC);
    check(mezzo_context_run(r->context, NULL));
    timespec_get(&end, TIME_UTC);
    return (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
}

static void read_answers(runner *r, const testset *set)
{
    mezzo_value_t *logits = NULL;
    check(mezzo_context_output(r->context, mezzo_io_name(mezzo_engine_output(r->engine, 0)), &logits));
    mezzo_value_t *wide = NULL;
    check(mezzo_value_to_float(logits, MEZZO_DTYPE_FP32, &wide));
    if (mezzo_value_count(wide) != set->count * CLASSES) {
        fputs("digits: the model's output is not [images, 10]\n", stderr);
        exit(1);
    }
    const float *rows = mezzo_value_data(wide);
    r->answers = must(malloc(set->count));
    r->right = 0;
    for (size_t i = 0; i < set->count; i++) {
        const float *row = rows + i * CLASSES;
        uint8_t best = 0;
        for (uint8_t c = 1; c < CLASSES; c++)
            if (row[c] > row[best])
                best = c;
        r->answers[i] = best;
        r->right += best == set->labels[i];
    }
    mezzo_value_free(wide);
    mezzo_value_free(logits);
}

/* Both precisions take turns, so that a busy machine hurts both. */
static void run_both(runner both[2], const testset *set)
{
    mezzo_value_t *images[2];
    for (int k = 0; k < 2; k++) {
        images[k] = images_value(set, both[k].dtype);
        check(mezzo_context_bind(both[k].context, mezzo_io_name(mezzo_engine_input(both[k].engine, 0)), images[k]));
        both[k].best_ms = run_once(&both[k]);
        read_answers(&both[k], set);
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int k = 0; k < 2; k++) {
            double ms = run_once(&both[k]);
            if (ms < both[k].best_ms)
                both[k].best_ms = ms;
        }
    for (int k = 0; k < 2; k++)
        mezzo_value_free(images[k]);
}

/* Shows some digits, the wrongly read and the differently read ones first. */
static void show_digits(const testset *set, const runner both[2])
{
    size_t shown[SHOWN], count = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < set->count && count < (pass == 0 ? 2 : SHOWN); i += pass == 0 ? 1 : 37) {
            int odd = both[0].answers[i] != set->labels[i] || both[1].answers[i] != both[0].answers[i];
            if (odd == (pass == 0))
                shown[count++] = i;
        }
    testset_print(set, shown, count);
    for (size_t i = 0; i < count; i++) {
        size_t k = shown[i];
        char text[32];
        snprintf(text, sizeof text, "is %d: fp32 %d fp16 %d", set->labels[k], both[0].answers[k], both[1].answers[k]);
        printf("  %-*s", (int)set->width * 2, text);
    }
    puts("\n");
}

static double accuracy(const runner *r, const testset *set)
{
    return 100.0 * (double)r->right / (double)set->count;
}

static void print_table(const testset *set, const runner both[2], const mezzo_report_t *report)
{
    mezzo_value_t *images = images_value(set, both[0].dtype);
    const char *name = mezzo_io_name(mezzo_engine_input(both[0].engine, 0));
    mezzo_comparison_t *difference = NULL;
    check(mezzo_compare(both[0].engine, both[1].engine, &name, (const mezzo_value_t *const *)&images, 1, &difference));

    double bytes[2] = {(double)mezzo_model_weight_bytes(both[0].model), (double)mezzo_model_weight_bytes(both[1].model)};
    double us[2];
    for (int k = 0; k < 2; k++)
        us[k] = both[k].best_ms * 1e3 / (double)set->count;
    printf("%zu held-out images          FP32        FP16\n", set->count);
    printf("  accuracy              %8.2f %%  %8.2f %%\n", accuracy(&both[0], set), accuracy(&both[1], set));
    printf("  bytes of constants    %8.0f    %8.0f    (%.2f times)\n", bytes[0], bytes[1], bytes[1] / bytes[0]);
    printf("  latency per image     %6.2f us   %6.2f us   (CPU backend, batch of %zu, best of %d runs)\n", us[0], us[1],
           set->count, ROUNDS + 1);
    printf("  largest difference of a logit  %.5f, that is %.5f of the largest logit\n",
           mezzo_comparison_max_abs(difference, 0), mezzo_comparison_max_rel(difference, 0));
    printf("  same class                     %.2f %% of the images\n\n", 100.0 * mezzo_comparison_top1_agreement(difference, 0));
    mezzo_comparison_free(difference);
    mezzo_value_free(images);

    if (report)
        puts(mezzo_report_to_text(report));
}

/* A TorchScript archive does not say which shapes it takes; the other forms do. */
static mezzo_model_t *load(const char *path)
{
    mezzo_load_options_t *options = mezzo_load_options_new();
    mezzo_model_t *model = NULL;
    size_t length = strlen(path);
    if (length > 3 && strcmp(path + length - 3, ".pt") == 0)
        check(mezzo_load_options_add_input(options, "image=batchx1x8x8:fp32"));
    check(mezzo_model_load_file(NULL, path, options, &model));
    mezzo_load_options_free(options);
    return model;
}

int main(int argc, char **argv)
{
    int brief = argc == 4 && strcmp(argv[3], "--brief") == 0;
    if (argc != 3 && !brief) {
        fprintf(stderr, "usage: %s MODEL digits_test.bin [--brief]\n", argv[0]);
        return 2;
    }
    check(MEZZO_CHECK_VERSION());
    testset set;
    if (testset_read(argv[2], &set) != 0)
        return 1;

    mezzo_model_t *fp32 = load(argv[1]), *fp16 = NULL;
    mezzo_report_t *report = NULL;
    check(mezzo_model_convert(fp32, NULL, &fp16, &report));
    printf("Mezzo %s: %s, input %s\n\n", mezzo_version_string(), argv[1], mezzo_io_text(mezzo_model_input(fp32, 0)));

    runner both[2] = {0};
    runner_open(&both[0], fp32);
    runner_open(&both[1], fp16);
    run_both(both, &set);
    if (!brief)
        show_digits(&set, both);
    print_table(&set, both, brief ? NULL : report);

    double loss = accuracy(&both[0], &set) - accuracy(&both[1], &set);
    if (loss > ALLOWED_LOSS)
        fprintf(stderr, "digits: FP16 loses %.2f points of accuracy, more than the %.1f allowed\n", loss, ALLOWED_LOSS);
    mezzo_report_free(report);
    runner_close(&both[0]);
    runner_close(&both[1]);
    testset_free(&set);
    return loss > ALLOWED_LOSS ? 1 : 0;
}
