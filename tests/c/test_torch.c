/* One network in three forms, ONNX, torch.export and TorchScript: the same answers. A TorchScript archive needs shapes. */
#include "check.h"

#include <math.h>
#include <string.h>

enum { IMAGES = 5, CLASSES = 10 };

static mezzo_model_t *load(const char *name, const mezzo_load_options_t *options)
{
    mezzo_model_t *model = NULL;
    OK(mezzo_model_load_file(NULL, fixture(name), options, &model));
    return model;
}

static void answers(mezzo_model_t *model, float logits[IMAGES * CLASSES])
{
    const int64_t dims[] = {IMAGES, 1, 8, 8};
    mezzo_engine_t *engine = NULL;
    mezzo_context_t *context = NULL;
    mezzo_value_t *images = NULL, *out = NULL;
    OK(mezzo_engine_build(NULL, model, "cpu", NULL, &engine));
    const char *input = mezzo_io_name(mezzo_engine_input(engine, 0));
    CHECK(strcmp(input, "image") == 0 && mezzo_engine_input_count(engine) == 1);
    OK(mezzo_engine_random_input(engine, input, dims, 4, 3, &images));
    OK(mezzo_context_new(engine, &context));
    OK(mezzo_context_bind(context, input, images));
    OK(mezzo_context_run(context, NULL));
    OK(mezzo_context_output(context, mezzo_io_name(mezzo_engine_output(engine, 0)), &out));
    CHECK(mezzo_value_count(out) == IMAGES * CLASSES);
    OK(mezzo_value_copy_out(out, logits, IMAGES * CLASSES * sizeof *logits));
    mezzo_value_free(out);
    mezzo_value_free(images);
    mezzo_context_free(context);
    mezzo_engine_free(engine);
    mezzo_model_free(model);
}

void test(void)
{
    float onnx[IMAGES * CLASSES], other[IMAGES * CLASSES];
    mezzo_model_t *none = UNTOUCHED;
    mezzo_load_options_t *options = mezzo_load_options_new();
    REFUSED(mezzo_load_options_add_input(NULL, "x"), MEZZO_ERROR_INVALID_ARGUMENT, "'options'");
    REFUSED(mezzo_load_options_add_input(options, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'input'");
    REFUSED(mezzo_load_options_add_input(options, "image="), MEZZO_ERROR_INVALID_ARGUMENT, "no shape");
    REFUSED(mezzo_model_load_file(NULL, fixture("digits/digits.pt"), NULL, &none), MEZZO_ERROR_INVALID_ARGUMENT, "image");
    CHECK(none == UNTOUCHED);

    answers(load("digits/digits.onnx", NULL), onnx);
    OK(mezzo_load_options_add_input(options, "image=batchx1x8x8:fp32"));
    const char *forms[] = {"digits/digits.pt2", "digits/digits.pt"};
    for (int form = 0; form < 2; form++) {
        answers(load(forms[form], form == 1 ? options : NULL), other);
        for (int i = 0; i < IMAGES * CLASSES; i++)
            CHECK(fabsf(other[i] - onnx[i]) < 1e-4f);
    }
    mezzo_load_options_free(options);
}
