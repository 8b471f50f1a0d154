/* Models: loaded, described, saved, with external data. */
#include "check.h"
#include "onnx_writer.h"

#include <stdlib.h>
#include <string.h>

static mezzo_model_t *load(const pb *bytes)
{
    mezzo_model_t *model = NULL;
    OK(mezzo_model_load_memory(NULL, bytes->data, bytes->size, NULL, NULL, NULL, &model));
    return model;
}

static void described(void)
{
    pb bytes = linear_model();
    mezzo_model_t *model = load(&bytes);
    pb_free(&bytes); /* it was copied */

    CHECK(mezzo_model_input_count(model) == 1 && mezzo_model_output_count(model) == 1);
    const mezzo_io_t *x = mezzo_model_input(model, 0), *found = NULL;
    CHECK(strcmp(mezzo_io_name(x), "x") == 0 && mezzo_io_kind(x) == MEZZO_KIND_TENSOR);
    CHECK(mezzo_io_dtype(x) == MEZZO_DTYPE_FP32 && mezzo_io_rank(x) == 2);
    CHECK(mezzo_io_dim(x, 0) == -1 && mezzo_io_dim(x, 1) == 3 && mezzo_io_dim(x, 2) == -1);
    CHECK(strcmp(mezzo_io_dim_symbol(x, 0), "N") == 0 && !mezzo_io_dim_symbol(x, 1) && !mezzo_io_dim_symbol(x, 9));
    CHECK(strcmp(mezzo_io_text(x), "fp32 [N,3]") == 0);
    OK(mezzo_model_find_input(model, "x", &found));
    CHECK(found == x);
    OK(mezzo_model_find_output(model, "y", &found));
    CHECK(found == mezzo_model_output(model, 0));
    CHECK(!mezzo_model_input(model, 1) && !mezzo_model_output(model, 1));
    found = UNTOUCHED;
    REFUSED(mezzo_model_find_input(model, "image", &found), MEZZO_ERROR_NOT_FOUND, "'image'", "'x'");
    REFUSED(mezzo_model_find_output(model, "x", &found), MEZZO_ERROR_NOT_FOUND, "'x'", "'y'");
    REFUSED(mezzo_model_find_input(model, "caf\xe9", &found), MEZZO_ERROR_INVALID_ARGUMENT, "'name'", "UTF-8");
    CHECK(found == UNTOUCHED);

    CHECK(strcmp(mezzo_model_producer_name(model), "mezzo-tests") == 0);
    CHECK(strcmp(mezzo_model_producer_version(model), "1.5") == 0);
    CHECK(mezzo_model_ir_version(model) == 8 && mezzo_model_node_count(model) == 3);
    CHECK(mezzo_model_opset(model, NULL) == 17 && mezzo_model_opset(model, "ai.onnx") == 17);
    CHECK(mezzo_model_opset(model, "com.example") == 3 && mezzo_model_opset(model, "other") == 0);
    CHECK(mezzo_model_opset_count(model) == 2 && strcmp(mezzo_model_opset_domain(model, 1), "com.example") == 0);
    CHECK(!mezzo_model_opset_domain(model, 2));
    CHECK(mezzo_model_weight_bytes(model) == 32);
    CHECK(mezzo_model_metadata_count(model) == 1 && strcmp(mezzo_model_metadata_key(model, 0), "author") == 0);
    /* A zero inside a string is shown, not taken for its end. */
    CHECK(strcmp(mezzo_model_metadata_value(model, 0), "a\\0b") == 0 && !mezzo_model_metadata_value(model, 1));
    CHECK(!mezzo_model_metadata_key(model, 1));
    const char *value = UNTOUCHED;
    OK(mezzo_model_find_metadata(model, "author", &value));
    CHECK(value == mezzo_model_metadata_value(model, 0));
    value = UNTOUCHED;
    REFUSED(mezzo_model_find_metadata(model, "licence", &value), MEZZO_ERROR_NOT_FOUND, "'licence'", "'author'");
    CHECK(value == UNTOUCHED);

    mezzo_model_t *same = mezzo_model_retain(model);
    mezzo_model_free(model);
    CHECK(strcmp(mezzo_io_name(mezzo_model_input(same, 0)), "x") == 0);
    mezzo_model_free(same);
}

static void saved(void)
{
    pb bytes = linear_model();
    mezzo_model_t *model = load(&bytes), *again = NULL;
    const char *path = scratch("saved.onnx");
    OK(mezzo_model_save_file(model, path, NULL));
    OK(mezzo_model_load_file(NULL, path, NULL, &again));
    CHECK(mezzo_model_weight_bytes(again) == 32);
    /* Over the file that it was read from. */
    OK(mezzo_model_save_file(again, path, NULL));
    mezzo_model_free(again);

    mezzo_save_options_t *options = mezzo_save_options_new();
    OK(mezzo_save_options_set_external(options, MEZZO_EXTERNAL_ALWAYS));
    OK(mezzo_save_options_set(options, "external", "always"));
    REFUSED(mezzo_save_options_set(options, "external", "maybe"), MEZZO_ERROR_INVALID_ARGUMENT, "'external'", "'maybe'");
    REFUSED(mezzo_save_options_set(options, "compress", "yes"), MEZZO_ERROR_NOT_FOUND, "'compress'", "'external'");
    REFUSED(mezzo_save_options_set_external(options, 3), MEZZO_ERROR_INVALID_ARGUMENT, "'external'", "3");
    OK(mezzo_model_save_file(model, scratch("outside.onnx"), options));
    CHECK(file_exists(scratch("outside.onnx.data")));
    OK(mezzo_model_load_file(NULL, scratch("outside.onnx"), NULL, &again));
    CHECK(mezzo_model_weight_bytes(again) == 32);
    mezzo_model_free(again);
    mezzo_save_options_free(options);

    mezzo_buffer_t *buffer = NULL;
    OK(mezzo_model_save_memory(model, &buffer));
    OK(mezzo_model_load_memory(NULL, mezzo_buffer_data(buffer), mezzo_buffer_size(buffer), NULL, NULL, NULL, &again));
    CHECK(mezzo_model_node_count(again) == 3);
    mezzo_model_free(again);
    mezzo_buffer_free(buffer);

    again = UNTOUCHED;
    buffer = UNTOUCHED;
    REFUSED(mezzo_model_save_file(model, scratch("no/such/folder/m.onnx"), NULL), MEZZO_ERROR_NOT_FOUND,
            "no/such/folder/m.onnx");
    REFUSED(mezzo_model_save_file(model, scratch("."), NULL), MEZZO_ERROR_INVALID_ARGUMENT, "directory");
    REFUSED(mezzo_model_save_file(model, "/proc/mezzo/m.onnx", NULL), MEZZO_ERROR_NOT_FOUND, "/proc/mezzo/m.onnx");
    REFUSED(mezzo_model_save_file(model, "", NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'path'", "empty");
    REFUSED(mezzo_model_save_memory(model, NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'buffer'", "NULL");
    mezzo_model_free(model);
    model = NULL;
    REFUSED(mezzo_model_save_memory(model, &buffer), MEZZO_ERROR_INVALID_ARGUMENT, "'model'", "NULL");
    CHECK(buffer == UNTOUCHED);
    pb_free(&bytes);
}

static void borrowed(void)
{
    pb bytes = linear_model();
    int released = 0;
    mezzo_model_t *model = UNTOUCHED;
    REFUSED(mezzo_model_load_memory(NULL, bytes.data, 20, count_release, &released, NULL, &model),
            MEZZO_ERROR_INVALID_FILE, "again");
    CHECK(released == 0 && model == UNTOUCHED);
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, count_release, &released, NULL, &model));
    CHECK(released == 0);
    mezzo_model_free(model);
    CHECK(released == 1);
    pb_free(&bytes);
}

static void external(void)
{
    mezzo_load_options_t *options = mezzo_load_options_new();
    mezzo_model_t *model = UNTOUCHED;
    pb bytes = linear_model_external("weights.bin", "8", NULL);
    unsigned char file[32] = {0};
    memcpy(file + 8, linear_weights, sizeof linear_weights);

    /* From memory without, then with the data. */
    REFUSED(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, NULL, &model), MEZZO_ERROR_NOT_FOUND,
            "'W'", "weights.bin");
    int released = 0;
    OK(mezzo_load_options_add_external(options, "other.bin", file, sizeof file, count_release, &released));
    REFUSED(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, options, &model), MEZZO_ERROR_NOT_FOUND,
            "'W'", "weights.bin");
    OK(mezzo_load_options_add_external(options, "weights.bin", file, sizeof file, count_release, &released));
    CHECK(model == UNTOUCHED);
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, options, &model));
    mezzo_load_options_free(options);
    CHECK(released == 1); /* other.bin; the model holds weights.bin */
    CHECK(mezzo_model_weight_bytes(model) == 32);
    mezzo_buffer_t *whole = NULL;
    OK(mezzo_model_save_memory(model, &whole));
    mezzo_model_free(model);
    CHECK(released == 2);
    mezzo_buffer_free(whole);

    /* From a folder. */
    options = mezzo_load_options_new();
    write_file(scratch("weights.bin"), file, sizeof file);
    OK(mezzo_load_options_set_external_folder(options, scratch(".")));
    OK(mezzo_model_load_memory(NULL, bytes.data, bytes.size, NULL, NULL, options, &model));
    mezzo_model_free(model);
    write_file(scratch("external.onnx"), bytes.data, bytes.size);
    OK(mezzo_load_options_set_map(options, MEZZO_MAP_ALWAYS));
    OK(mezzo_load_options_set(options, "map", "always"));
    REFUSED(mezzo_load_options_set_map(options, -1), MEZZO_ERROR_INVALID_ARGUMENT, "'map'", "-1");
    REFUSED(mezzo_load_options_set(options, "mmap", "always"), MEZZO_ERROR_NOT_FOUND, "'mmap'", "'map'");
    OK(mezzo_model_load_file(NULL, scratch("external.onnx"), options, &model));
    mezzo_model_free(model);
    mezzo_load_options_free(options);
    pb_free(&bytes);
}

static void real_model(void)
{
    mezzo_model_t *model = NULL;
    OK(mezzo_model_load_file(NULL, fixture("digits/digits.onnx"), NULL, &model));
    CHECK(strcmp(mezzo_io_text(mezzo_model_input(model, 0)), "fp32 [batch,1,8,8]") == 0);
    CHECK(strcmp(mezzo_io_text(mezzo_model_output(model, 0)), "fp32 [batch,10]") == 0);
    mezzo_model_free(model);
}

void test(void)
{
    described();
    saved();
    borrowed();
    external();
    real_model();
}
